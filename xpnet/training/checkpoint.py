"""A whole run in one file: weights, optimizer, schedule, history, and where in which epoch it stands.

The file is a safetensors file. Arrays are named ``model.<path>``, ``optimizer.<state>.<path>`` and
``callbacks.<number>.<name>``; everything else is JSON in its metadata, with a digest of it all.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import xpnet
from xpnet import backend
from xpnet.errors import OperationError, StateError, WeightsError
from xpnet.io.weights import read_arrays, write_arrays
from xpnet.training.history import History
from xpnet.training.position import Position

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["FORMAT", "State", "capture", "load_checkpoint", "read_about", "restore", "save_checkpoint"]

FORMAT = 1  # goes up when older versions can no longer read the file
UNCHANGED = "Nothing has been changed."


class State(NamedTuple):
    """What a checkpoint holds: arrays by name, and plain values."""

    arrays: dict[str, Any]
    plain: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], trainer: Trainer, *, about: Mapping[str, Any] | None = None) -> Path:
    """Write everything that a run needs to go on as if nothing had happened.

    Model, optimizer (with its master weights), loss scale, schedule, history, the states of callbacks, the seeds and
    counts of random masks, and the position in the epoch. A crash at any moment leaves a former file as it was.

    Parameters
    ----------
    path : str or path
        The ending ``.safetensors`` is customary; the folder must exist.
    trainer : Trainer
        With a model that has been built.
    about : mapping, optional
        What else to note, as plain values; `read_about` returns it.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    StateError
        If the model has not been built.
    MissingDependencyError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import Trainer, load_checkpoint, save_checkpoint
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> trainer = Trainer(Dense(2))
    >>> history = trainer.fit(data, epochs=3, verbose=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(folder + "/run.safetensors", trainer)
    ...     resumed = load_checkpoint(path, Trainer(Dense(2)))
    >>> len(resumed.history), resumed.optimizer.step
    (3, 3)
    """
    state = capture(trainer)
    arrays = {name: np.ascontiguousarray(backend.to_numpy(a)) for name, a in state.arrays.items()}
    dtype = trainer.model.parameters()[0].data.dtype if trainer.model.parameters() else backend.get().dtype
    content = {
        "kind": "checkpoint",
        "format": FORMAT,
        "version": xpnet.__version__,
        "model": type(trainer.model).__name__,
        "input_shape": list(trainer.model.input_shape or ()),
        "dtype": backend.dtype_name(dtype),
        **state.plain,
        "about": {} if about is None else dict(about),
    }
    write_arrays(path, arrays, content | {"digest": _digest(arrays, content)})
    return Path(path)


def load_checkpoint(path: str | os.PathLike[str], trainer: Trainer) -> Trainer:
    """Put a trainer where another one was when `save_checkpoint` wrote the file.

    On the same backend and float type the run goes on bit for bit: ``fit(train, validation, until=...)`` with
    the same data ends in the weights that the run would have had without the break. Files of other backends
    and float types load too; a loss scale of another kind begins afresh.

    Parameters
    ----------
    path : str or path
    trainer : Trainer
        Made as the one that was saved; its model built or not.

    Returns
    -------
    Trainer
        The trainer itself.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, no checkpoint, of a newer format, or does not fit the trainer; nothing
        is changed.
    MissingDependencyError
        If safetensors is not installed.
    """
    state, content = _read(path)
    try:
        if not trainer.model.built:
            _try_on_copy(trainer, state, content)
            trainer.model.build(tuple(content["input_shape"]), rng=trainer.seed)
        before = capture(trainer)
        try:
            restore(trainer, state)
        except BaseException:
            restore(trainer, before)
            raise
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError, StateError, OperationError) as error:
        text = str(error).replace("The model has not been changed.", "").strip()
        raise WeightsError(f"{path}: {text} {UNCHANGED}") from error
    return trainer


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint says of itself: version, model, dtype, input_shape, history, about and so on.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, no checkpoint, or of a newer format.
    """
    return _read(path)[1]


def capture(trainer: Trainer) -> State:
    """Return the state of a trainer; arrays stay where they are."""
    optimizer = trainer.optimizer.state_dict()
    arrays = {f"model.{path}": a for path, a in trainer.model.state_dict().items()}
    arrays |= {f"optimizer.{name}": a for name, a in optimizer.items() if name not in ("step", "lr")}
    callbacks = []
    for number, callback in enumerate(trainer.callbacks):
        state = callback.state_dict()
        plain = {name: value for name, value in state.items() if not hasattr(value, "shape")}
        arrays |= {f"callbacks.{number}.{name}": a for name, a in state.items() if name not in plain}
        callbacks.append({"type": type(callback).__name__, "state": plain})
    schedule, scale = trainer.schedule, trainer.loss_scale
    return State(
        arrays,
        {
            "optimizer": {"type": type(trainer.optimizer).__name__, "step": optimizer["step"], "lr": optimizer["lr"]},
            "loss_scale": None if scale is None else {"type": type(scale).__name__, "state": scale.state_dict()},
            "schedule": None if schedule is None else {"type": type(schedule).__name__, "state": schedule.state_dict()},
            "random": trainer.model.random_state(),
            "position": trainer.position.state_dict(),
            "history": trainer.history.to_dict(),
            "callbacks": callbacks,
        },
    )


def restore(trainer: Trainer, state: State) -> None:
    """Put a trainer into a state; an exception may leave half of it done."""
    plain = state.plain
    history, position = History.from_dict(plain["history"]), Position.from_dict(plain["position"])
    _restore_optimizer(trainer, state)
    trainer.model.load_state_dict(_below("model.", state.arrays))
    trainer.model.load_random_state(plain["random"])
    if trainer.schedule is not None and plain["schedule"] is not None:
        trainer.schedule.load_state_dict(plain["schedule"]["state"])
    scale, saved = trainer.loss_scale, plain.get("loss_scale")
    if scale is not None and saved is not None and saved["type"] == type(scale).__name__:
        scale.load_state_dict(saved["state"])
    _restore_callbacks(trainer, state)
    trainer.history, trainer.position = history, position


def _restore_optimizer(trainer: Trainer, state: State) -> None:
    saved = state.plain["optimizer"]
    own = type(trainer.optimizer).__name__
    if saved["type"] != own:
        raise ValueError(f"it was saved by a run with the optimizer {saved['type']}, this one has {own}.")
    step, lr = saved["step"], saved["lr"]
    if type(step) is not int or not 0 <= step < 2**63 or type(lr) is not float:
        raise ValueError(f"the optimizer's step is {step!r} and its lr {lr!r}.")
    trainer.optimizer.load_state_dict({"step": step, "lr": lr} | _below("optimizer.", state.arrays), trainer.model)


def _restore_callbacks(trainer: Trainer, state: State) -> None:
    """Give each callback the state of the saved one of its type, in order; those that are new begin afresh."""
    waiting = list(enumerate(state.plain["callbacks"]))
    for callback in trainer.callbacks:
        for entry in waiting:
            number, saved = entry
            if saved["type"] == type(callback).__name__:
                callback.load_state_dict(saved["state"] | _below(f"callbacks.{number}.", state.arrays))
                waiting.remove(entry)
                break


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _try_on_copy(trainer: Trainer, state: State, content: Mapping[str, Any]) -> None:
    """Raise what would be raised, before a model that has not been built is built."""
    shape = content["input_shape"]
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise ValueError(f"the model's input shape is {shape!r}.")
    trial = copy.copy(trainer)
    trial.callbacks = []
    trial.model, trial.optimizer, trial.schedule = copy.deepcopy((trainer.model, trainer.optimizer, trainer.schedule))
    trial._loss_scale = copy.deepcopy(trainer._loss_scale)
    trial.model.build(tuple(shape), rng=trainer.seed)
    restore(trial, state)


def _read(path: str | os.PathLike[str]) -> tuple[State, dict[str, Any]]:
    """Read a checkpoint and check that it is one, whole and unharmed."""
    arrays, content = read_arrays(path)
    if content is None or content.get("kind") != "checkpoint":
        raise WeightsError(
            f"{path}: no checkpoint of a run, but some other safetensors file; xpnet.io.load_weights reads weights. "
            f"{UNCHANGED}"
        )
    if content.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: a checkpoint of format {content.get('format')!r}, written by xpnet {content.get('version')!r}; "
            f"this is {xpnet.__version__} and reads format {FORMAT}: install a newer one. {UNCHANGED}"
        )
    digest = content.pop("digest", None)
    if digest != _digest(arrays, content):
        raise WeightsError(f"{path}: damaged: its contents do not match their checksum. {UNCHANGED}")
    return State(arrays, content), content


def _digest(arrays: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Return a checksum against accidents of everything in the file."""
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16)
    for name, a in sorted(arrays.items()):
        digest.update(f"{name} {a.dtype} {a.shape}".encode())
        digest.update(a.reshape(-1).view(np.uint8).data if a.size else b"")
    return digest.hexdigest()
