"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from xpnet.files import atomic_write
from xpnet.text import as_json

__all__ = ["Epoch", "History", "value_of"]

_NUMBERS = ("loss", "lr", "seconds", "images_per_second")  # of an epoch, that every one has


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch: means over its batches while learning, and the validation after it.

    Attributes
    ----------
    epoch : int
        From 1 on.
    loss : float
    accuracy : float or None
        None where the loss is not one of classification.
    validation_loss, validation_accuracy : float or None
        None without validation data.
    lr : float
        That of the epoch's last update.
    seconds : float
        Of learning, without the validation.
    images_per_second : float
    validation_metrics : mapping of str to plain values
        What else the trainer was asked to measure; a confusion matrix as nested lists.
    skipped_steps : int
        Steps that changed no weight because their gradients overflowed; see `xpnet.optim.LossScale`.
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float
    validation_metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    skipped_steps: int = 0


@dataclasses.dataclass
class History:
    """The epochs of a run.

    Attributes
    ----------
    epochs : list of Epoch
        Whole epochs only.
    interrupted : bool
        Whether Ctrl-C ended the run.
    stopped : str or None
        Why a callback ended the run before its time, such as early stopping.

    Examples
    --------
    >>> from xpnet.training import Epoch, History
    >>> history = History([Epoch(1, 0.5, 0.8, None, None, 0.001, 2.0, 5000.0)])
    >>> history["loss"]
    [0.5]
    """

    epochs: list[Epoch] = dataclasses.field(default_factory=list)
    interrupted: bool = False
    stopped: str | None = None

    def __getitem__(self, name: str) -> list[Any]:
        """Return one quantity over the epochs, such as ``history["validation_accuracy"]`` or ``history["top5"]``."""
        return [value_of(epoch, name) for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> History:
        """Make a history of what `to_dict` returned; a file may hold anything, so all of it is checked.

        Null, as `save` writes a number that is not finite, is NaN again where it cannot mean that there was none.

        Raises
        ------
        ValueError
            If something is missing, too many, or of the wrong type.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("epochs"), list):
            raise ValueError("a history must hold a list of epochs")
        epochs = []
        for number, saved in enumerate(content["epochs"], 1):
            entry: dict[str, Any] = {"skipped_steps": 0} | saved if isinstance(saved, dict) else {}
            if set(entry) != {f.name for f in dataclasses.fields(Epoch)}:
                raise ValueError(f"epoch {number} of the history does not hold what an epoch holds")
            entry |= {name: math.nan for name in _NUMBERS if entry[name] is None}
            for name, value in entry.items():
                counts = name in ("epoch", "skipped_steps")
                wanted: Any = int if counts else Mapping if name == "validation_metrics" else (float, int)
                optional = name.startswith("validation_") or name == "accuracy"
                if not (isinstance(value, wanted) or (optional and value is None)) or isinstance(value, bool):
                    raise ValueError(f"epoch {number} of the history has {name} {value!r}")
            epochs.append(Epoch(**entry))
        interrupted, stopped = content.get("interrupted"), content.get("stopped")
        if not isinstance(interrupted, bool) or not (stopped is None or isinstance(stopped, str)):
            raise ValueError("a history must say whether it was interrupted or stopped")
        return cls(epochs, interrupted, stopped)

    def save(self, path: str | os.PathLike[str], *, about: Mapping[str, Any] | None = None) -> None:
        """Write everything as JSON; the file appears whole or not at all. What is not finite is null.

        Parameters
        ----------
        path : str or path
        about : mapping, optional
            What else to note, such as the command and the versions: it comes first, as ``"about"``.
        """
        content = ({} if about is None else {"about": dict(about)}) | self.to_dict()
        with atomic_write(path) as file:
            file.write((as_json(content, indent=2) + "\n").encode())


def value_of(epoch: Epoch, name: str) -> Any:
    """Return a quantity of an epoch by its name: an attribute, or one of the metrics."""
    if name in epoch.validation_metrics:
        return epoch.validation_metrics[name]
    try:
        return getattr(epoch, name)
    except AttributeError:
        known = [f.name for f in dataclasses.fields(epoch) if f.name != "validation_metrics"]
        raise KeyError(f"an epoch has no {name!r}; it has {', '.join([*known, *epoch.validation_metrics])}") from None
