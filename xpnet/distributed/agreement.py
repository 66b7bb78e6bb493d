"""Whether all ranks are at the same: the same model, the same data, the same settings, and later the same weights."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

import xpnet
from xpnet import backend
from xpnet.data import Loader
from xpnet.distributed.communicator import Communicator
from xpnet.errors import DistributedError
from xpnet.layers.base import Layer

if TYPE_CHECKING:
    from xpnet.training import Trainer

__all__ = ["check_agreement", "check_weights", "describe"]

LOOKED_AT = 64  # samples of the training data, spread over all of it, that make up its digest


def describe(trainer: Trainer, loader: Loader, held_out: Any) -> dict[str, Any]:
    """Return what all ranks must have in common, by names for an error message."""
    model = trainer.model
    found: dict[str, Any] = {"xpnet version": xpnet.__version__, "model": type(model).__name__}
    found |= {f"line {i} of the model": line for i, line in enumerate(repr(model).splitlines(), 1)}
    arrays = [(path, p.data) for path, p in model.named_parameters()]
    arrays += [(path, getattr(layer, name)) for path, layer, name in model.named_buffers()]
    found["number of parameters"] = sum(p.size for p in model.parameters())
    found |= {f"array {i} of the model": f"{name} {tuple(a.shape)} {a.dtype}" for i, (name, a) in enumerate(arrays)}
    return found | {
        "optimizer": _settings(trainer.optimizer, without=("lr", "step")),  # rank 0 gives these two to all
        "loss": _settings(trainer.loss),
        "schedule": None if trainer.schedule is None else type(trainer.schedule).__name__,
        "metrics": sorted(trainer.metrics),
        "number of training samples": loader.samples,
        "batch size": loader.batch_size,
        "micro-batch": trainer.micro_batch,
        "seed of the order": loader.seed,
        "shuffling": loader.shuffle,
        "shape of a sample": loader.sample_shape,
        "training data": _digest_of_data(loader),
        "number of validation samples": _samples(held_out),
    }


def check_agreement(comm: Communicator, own: dict[str, Any]) -> None:
    """Refuse ranks that differ in something.

    Parameters
    ----------
    comm : Communicator
    own : dict
        What all ranks must have in common, by name, with values that can be compared and shown.

    Raises
    ------
    DistributedError
        On all ranks, with both values.
    """
    first, *others = comm.gather_objects(own)
    for rank, other in enumerate(others, 1):
        for name in [*first, *(n for n in other if n not in first)]:
            if first.get(name) != other.get(name):
                raise DistributedError(
                    f"the ranks differ in their {name}: {first.get(name)!r} on rank 0, {other.get(name)!r} on rank "
                    f"{rank}; start all ranks with the same program, arguments, data and version of xpnet"
                )


def check_weights(comm: Communicator, model: Layer) -> None:
    """Refuse ranks whose weights have come apart by so much as a bit.

    Raises
    ------
    DistributedError
        On all ranks, naming those that differ from rank 0.
    """
    digest = hashlib.blake2b(digest_size=16)
    for segment in model.store.segments:
        digest.update(np.ascontiguousarray(backend.to_numpy(segment.data)).view(np.uint8).data)
    first, *others = comm.gather_objects(digest.hexdigest())
    apart = [str(rank) for rank, other in enumerate(others, 1) if other != first]
    if apart:
        raise DistributedError(
            f"the weights of rank {', '.join(apart)} are no longer those of rank 0; something that changes weights "
            "(a callback, say) does not do the same on all ranks, or memory or network are faulty"
        )


def _settings(thing: Any, *, without: tuple[str, ...] = ()) -> str:
    plain = {}
    for name, value in vars(thing).items():
        if not name.startswith("_") and name not in without:
            value = getattr(value, "values", value)  # weights of classes
            plain[name] = value.tolist() if isinstance(value, np.ndarray) else value
    groups = plain.pop("groups", ())
    if not callable(groups):
        plain["groups"] = [{k: v for k, v in group.items() if not callable(v)} for group in groups]
    return f"{type(thing).__name__}({', '.join(f'{k}={v!r}' for k, v in plain.items() if v not in (None, (), []))})"


def _digest_of_data(loader: Loader) -> str:
    x, t = loader.stored
    some = x[:: max(1, len(x) // LOOKED_AT)]
    return f"checksum {zlib.crc32(np.ascontiguousarray(t).tobytes(), zlib.crc32(some.tobytes())):08x}"


def _samples(data: Any) -> int | None:
    if data is None:
        return None
    return data.samples if isinstance(data, Loader) else int(data[0].shape[0])
