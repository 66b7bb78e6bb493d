"""Ending a run when it no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xpnet.training.callbacks.base import Best, Callback
from xpnet.training.history import Epoch
from xpnet.training.position import Position

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Ends the run when a quantity has not improved for more than `patience` epochs.

    Parameters
    ----------
    watch : str, default "validation_loss"
        Quantity of an epoch, or a metric by its name; less is better if it ends in "loss", more otherwise.
    patience : int, default 5
        Epochs without improvement that are allowed.
    min_delta : float, at least 0, default 0
        What counts as an improvement must be larger than this.
    restore_best : bool, default False
        At the end of `fit`, whoever stopped it, give the model the weights and statistics of the best epoch back;
        not if it was interrupted, nor after an exception. The optimizer keeps its own state, and the next `fit`
        begins an epoch that was broken off anew: the weights are not those that it had come to.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if the run does not measure what is watched.

    References
    ----------
    Prechelt, *Early stopping, but when?* (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.optim import SGD
    >>> from xpnet.training import EarlyStopping, Trainer
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> trainer = Trainer(Dense(2), optimizer=SGD(lr=1e-9), callbacks=[EarlyStopping("accuracy", patience=2)])
    >>> history = trainer.fit(data, epochs=100, verbose=False)
    >>> len(history), history.stopped
    (4, 'no better accuracy for 3 epochs')
    """

    def __init__(
        self,
        watch: str = "validation_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        if not isinstance(patience, int) or patience < 0:
            raise ValueError(f"EarlyStopping: patience must be a whole number, at least 0, got {patience!r}")
        if not 0.0 <= min_delta < float("inf"):
            raise ValueError(f"EarlyStopping: min_delta must be finite and at least 0, got {min_delta!r}")
        self.patience, self.min_delta, self.restore_best = patience, float(min_delta), restore_best
        self._best = Best("EarlyStopping", watch)
        self._bad = 0  # epochs since the best
        self._weights: dict[str, Any] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        """End at once a run that was resumed where it had stopped."""
        self._stop_if_due(trainer)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Look at the epoch."""
        if self._best.improved(epoch, self.min_delta):
            self._bad = 0
            self._weights = trainer.model.state_dict() if self.restore_best else {}
        else:
            self._bad += 1
        self._stop_if_due(trainer)

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """Give the best weights back."""
        if self._weights and error is None and not trainer.history.interrupted:
            trainer.model.load_state_dict(self._weights)
            place = trainer.position
            trainer.position = Position(loader=place.loader, epoch=place.epoch)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self._bad > self.patience:
            trainer.stop(f"no better {self._best.watch} for {self._bad} epoch{'s' * (self._bad > 1)}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, the count, and the best weights if they are to be restored."""
        return {"best": self._best.value, "bad": self._bad} | {f"weights.{k}": w for k, w in self._weights.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        bad = state.get("bad")
        if not isinstance(bad, int) or bad < 0 or "best" not in state:
            raise ValueError("EarlyStopping: the state is not one of EarlyStopping")
        self._best.load(state["best"])
        self._bad = bad
        self._weights = {k.removeprefix("weights."): w for k, w in state.items() if k.startswith("weights.")}
