"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from xpnet.files import atomic_write

__all__ = ["Epoch", "History"]


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
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float


@dataclasses.dataclass
class History:
    """The epochs of a run.

    Attributes
    ----------
    epochs : list of Epoch
        Whole epochs only.
    interrupted : bool
        Whether Ctrl-C ended the run.

    Examples
    --------
    >>> from xpnet.training import Epoch, History
    >>> history = History([Epoch(1, 0.5, 0.8, None, None, 0.001, 2.0, 5000.0)])
    >>> history["loss"]
    [0.5]
    """

    epochs: list[Epoch] = dataclasses.field(default_factory=list)
    interrupted: bool = False

    def __getitem__(self, name: str) -> list[Any]:
        """Return one quantity over the epochs, such as ``history["validation_accuracy"]``."""
        return [getattr(epoch, name) for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return dataclasses.asdict(self)

    def save(self, path: str | os.PathLike[str], *, about: Mapping[str, Any] | None = None) -> None:
        """Write everything as JSON; the file appears whole or not at all.

        Parameters
        ----------
        path : str or path
        about : mapping, optional
            What else to note, such as the command and the versions: it comes first, as ``"about"``.
        """
        content = ({} if about is None else {"about": dict(about)}) | self.to_dict()
        with atomic_write(path) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())
