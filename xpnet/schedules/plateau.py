"""The schedule that looks at what is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnet.schedules.base import Schedule

__all__ = ["Plateau"]


class Plateau(Schedule):
    """Times `factor` when what it observes has not improved for more than `patience` epochs.

    Better is below ``best * (1 - threshold)`` for a loss, above ``best * (1 + threshold)`` for an accuracy.
    After a change it waits for `cooldown` epochs before it counts again.

    Parameters
    ----------
    lr : float
    factor : float, 0 < factor < 1, default 0.1
    patience : int, default 10
    threshold : float, at least 0, default 0.0001
    cooldown : int, default 0
    minimum : float, default 0
        The rate does not fall below it.
    watch : {"loss", "accuracy"}, default "loss"
        `Trainer` gives the one of the validation if there is any, else that of the training.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> from xpnet.schedules import Plateau
    >>> schedule = Plateau(1.0, factor=0.5, patience=1)
    >>> rates = []
    >>> for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.0, 1.0]):
    ...     rates.append(schedule(epoch))
    ...     schedule.observe(loss)
    >>> rates
    [1.0, 1.0, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        lr: float,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        minimum: float = 0.0,
        watch: str = "loss",
    ) -> None:
        super().__init__(lr)
        self._require(0.0 < factor < 1.0, f"factor must be above 0 and below 1, got {factor!r}")
        for name, number in (("patience", patience), ("cooldown", cooldown)):
            fits = isinstance(number, int) and number >= 0
            self._require(fits, f"{name} must be a whole number, at least 0, got {number!r}")
        self._require(0.0 <= threshold < math.inf, f"threshold must be finite and at least 0, got {threshold!r}")
        self._require(watch in ("loss", "accuracy"), f"watch must be 'loss' or 'accuracy', got {watch!r}")
        self.factor, self.patience, self.threshold = float(factor), patience, float(threshold)
        self.cooldown, self.minimum = cooldown, self._minimum(minimum)
        self._watch = watch
        self._rate = self.lr
        self._best: float | None = None
        self._bad = 0  # epochs since the best
        self._waiting = 0  # epochs of cooldown left

    @property
    def watch(self) -> str:
        """What to give to `observe`: "loss", of which less is better, or "accuracy", of which more is."""
        return self._watch

    def __call__(self, position: int) -> float:
        """Return the rate as it is now, whatever the position."""
        return self._rate

    def observe(self, value: float) -> None:
        """Take note of the loss or accuracy after an epoch, once for each."""
        if self._is_better(float(value)):
            self._best, self._bad = float(value), 0
        else:
            self._bad += 1
        if self._waiting > 0:
            self._waiting, self._bad = self._waiting - 1, 0
        if self._bad > self.patience:
            self._rate = max(self._rate * self.factor, self.minimum)
            self._waiting, self._bad = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        if self.watch == "loss":
            return value < self._best * (1.0 - self.threshold)
        return value > self._best * (1.0 + self.threshold)

    def state_dict(self) -> dict[str, Any]:
        """Return the rate, the best value and the counts, as plain numbers."""
        return {"rate": self._rate, "best": self._best, "bad": self._bad, "waiting": self._waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        WeightsError
            If it is the state of another kind of schedule.
        """
        self._check_names(state, self.state_dict())
        best = state["best"]
        self._rate, self._best = float(state["rate"]), None if best is None else float(best)
        self._bad, self._waiting = int(state["bad"]), int(state["waiting"])
