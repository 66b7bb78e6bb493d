"""What is said when memory runs out: which layer asked for it, and which batch would fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet import backend, config
from xpnet.backend import Array
from xpnet.backend.memory import device_memory, host_memory, is_out_of_memory
from xpnet.errors import OperationError, OutOfMemoryError
from xpnet.text import first_line, in_bytes

if TYPE_CHECKING:
    from xpnet.layers.base import Layer
    from xpnet.optim import Optimizer

__all__ = ["batch_that_fits", "lack_of_memory"]


def lack_of_memory(error: BaseException, operation: str, what: str) -> OutOfMemoryError | None:
    """Return an error that says where memory ran out; None if that is not what happened, or has been said."""
    if isinstance(error, OperationError) or not is_out_of_memory(error):
        return None
    return OutOfMemoryError(operation, f"out of memory in {what} ({first_line(error)}); take fewer samples at a time")


def describe(x: Array) -> str:
    """Return shape and type of an array in words; of what is none, only its type: that is the error under way."""
    if not hasattr(x, "shape"):
        return type(x).__name__
    return f"{tuple(x.shape)} {backend.dtype_name(x.dtype)}"


def batch_that_fits(model: Layer, optimizer: Optimizer, samples: int) -> str:
    """Return advice for a step that ran out of memory: its predicted size, what there is, and a batch that fits.

    Where the prediction says that the step would fit, it is wrong or others hold the memory: then half is advised.
    """
    summary = model.summary()
    needed = summary.training_memory(samples, optimizer).total
    text = f"a step of {samples} samples is predicted to take {in_bytes(needed)}, without the data set"
    room = _room(model)
    fits = samples // 2
    if room is not None:
        text += f", and there are {in_bytes(room)}"
        fits = min(fits, summary.largest_batch(max(1, room), optimizer))
    if fits < 1:
        return f"{text}: not one sample fits; take a smaller model or image, or XPNET_DTYPE=bfloat16"
    return f"{text}; batch_size={fits} should fit, or micro_batch={fits} to learn from as many samples in pieces"


def _room(model: Layer) -> int | None:
    """Return the bytes that model and step can have where the model is; None if nothing tells."""
    for p in model.parameters():
        xp, device = backend.array_namespace(p.data), backend.device_of(p.data)
        memory = device_memory(xp, device)
        if memory is None:
            return host_memory() if backend.is_on_host(p.data) else None
        columns = config.get("conv_workspace_gpu") if xp.__name__.endswith("cupy") else 0
        return memory.total - columns  # which the prediction takes to be as few as on a CPU
    return None
