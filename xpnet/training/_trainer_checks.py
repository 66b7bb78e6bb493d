"""What `Trainer` accepts, and what it says about anything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xpnet.data import Loader
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_positive_int
from xpnet.training.callbacks import Callback


def checked_callbacks(callbacks: Any) -> list[Callback]:
    """Refuse what is no callback before it is called, as a class would be with the trainer for itself."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise ArgumentError("Trainer", f"callbacks must be a list of callbacks, got {callbacks!r}; put it in brackets")
    found = list(callbacks)
    for callback in found:
        if isinstance(callback, type) and issubclass(callback, Callback):
            name = callback.__name__
            raise ArgumentError("Trainer", f"callbacks holds the class {name}; make a callback of it: {name}(...)")
        if not isinstance(callback, Callback):
            raise ArgumentError(
                "Trainer", f"callbacks holds {callback!r}; expected a Callback, such as EarlyStopping()"
            )
    return found


def check_data(name: str, data: Any) -> None:
    """Refuse data that are neither a Loader nor a pair, which an array of two rows is not."""
    if isinstance(data, Loader) or (isinstance(data, (tuple, list)) and len(data) == 2):
        return
    found = type(data).__name__ + (f" of {len(data)}" if isinstance(data, (tuple, list)) else "")
    raise ArgumentError(
        "Trainer.fit",
        f"{name} must be a pair (x, t) of samples and labels or targets, a part of a Dataset such as dataset.train, "
        f"or a Loader, got {found}",
    )


def held_out_data(data: Any, samples: int | None) -> Any:
    """Return the validation data, or the first samples of them; what is wrong is said before an epoch is learnt."""
    if samples is not None:
        samples = check_positive_int("Trainer.fit", "validation_samples", samples)
    if data is None or isinstance(data, Loader):
        return data
    x, t = data
    numbers = [part.shape[0] if getattr(part, "shape", ()) else type(part).__name__ for part in (x, t)]
    if not isinstance(numbers[0], int) or numbers[0] == 0 or numbers[0] != numbers[1]:
        raise ArgumentError(
            "Trainer.fit",
            f"validation must be arrays of as many samples as labels or targets, and at least one; got {numbers[0]} "
            f"and {numbers[1]}",
        )
    return data if samples is None else (x[:samples, ...], t[:samples, ...])
