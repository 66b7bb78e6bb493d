"""Saving a run while it goes on, so that nothing that ends it costs more than a little."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.training.callbacks.base import Best, Callback
from xpnet.training.checkpoint import save_checkpoint
from xpnet.training.history import Epoch

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the run as ``last.safetensors`` and, when it is the best so far, as ``best.safetensors``.

    Both hold all that `save_checkpoint` saves; a crash at any moment leaves the last good file. Ctrl-C
    saves too.

    Parameters
    ----------
    folder : str or path
        Made if need be.
    every_epochs : int, default 1
        The last epoch of a run is saved in any case.
    every_updates : int, optional
        Save within the epochs too, after so many updates.
    every_seconds : float, optional
        Save within the epochs too, when so much time has gone by since the last time.
    best : str or None, default "validation_loss"
        Quantity of an epoch, or a metric by its name, that says which epoch is the best; less is better if it
        ends in "loss", more otherwise. None saves no best.
    about : mapping, optional
        What else to note in the files, as plain values: settings, class names.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if the run does not measure what `best` names.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import Checkpoint, Trainer, load_checkpoint
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = Trainer(Dense(2), callbacks=[Checkpoint(folder, best="accuracy")])
    ...     history = trainer.fit(data, epochs=3, verbose=False)
    ...     print(sorted(os.listdir(folder)))
    ...     resumed = load_checkpoint(folder + "/last.safetensors", Trainer(Dense(2)))
    ['best.safetensors', 'last.safetensors']
    >>> len(resumed.history)
    3
    """

    writes = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_updates: int | None = None,
        every_seconds: float | None = None,
        best: str | None = "validation_loss",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("every_epochs", every_epochs), ("every_updates", every_updates)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"Checkpoint: {name} must be a whole number, at least 1, got {value!r}")
        if every_seconds is not None and not every_seconds > 0.0:
            raise ValueError(f"Checkpoint: every_seconds must be above 0, got {every_seconds!r}")
        self.folder = Path(folder)
        self.every_epochs, self.every_updates, self.every_seconds = every_epochs, every_updates, every_seconds
        self.about = about
        self._best = None if best is None else Best("Checkpoint", best)
        self._saved = (-1, 0, 0)
        self._saved_time = 0.0

    @property
    def last(self) -> Path:
        """Where the newest state of the run is."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """Where the best epoch is."""
        return self.folder / "best.safetensors"

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Make the folder, now, so that one that cannot be made costs no training; remove what a crash left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.last, self.best):
            for leftover in self.folder.glob(f".{path.name}.*.part"):
                with contextlib.suppress(OSError):
                    leftover.unlink()
        self._note(trainer)

    def on_update(self, trainer: Trainer) -> None:
        """Save within the epoch, if it is time."""
        updates = trainer.optimizer.step - self._saved[0]
        if (self.every_updates is not None and updates >= self.every_updates) or (
            self.every_seconds is not None and time.monotonic() - self._saved_time >= self.every_seconds
        ):
            self._save(trainer, self.last)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Save the epoch, if it is its turn, and the best one."""
        if self._best is not None and self._best.improved(epoch):
            self._save(trainer, self.best)
        if epoch.epoch % self.every_epochs == 0 or trainer.ending:  # before `EarlyStopping` restores its best weights
            self._save(trainer, self.last)

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """Save what has not been saved yet, unless something went wrong: the last good state stays then."""
        if error is None and _place(trainer) != self._saved:
            self._save(trainer, self.last)

    def _save(self, trainer: Trainer, path: Path) -> None:
        save_checkpoint(path, trainer, about=self.about)
        if path == self.last:
            self._note(trainer)

    def _note(self, trainer: Trainer) -> None:
        self._saved, self._saved_time = _place(trainer), time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {} if self._best is None else {"best": self._best.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if self._best is not None:
            self._best.load(state.get("best"))


def _place(trainer: Trainer) -> tuple[int, int, int]:
    """Return what tells one moment of a run from another; a step that is skipped for its loss scale is no update."""
    return trainer.optimizer.step, len(trainer.history), trainer.position.batch
