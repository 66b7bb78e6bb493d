"""What a schedule is: a function of the position in a run, and of nothing else unless it has a state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from xpnet.errors import WeightsError

__all__ = ["Function", "Schedule", "as_schedule"]


class Schedule:
    """Base of the schedules; a subclass gives `__call__`.

    Parameters
    ----------
    lr : float
        The rate that the schedule starts from (`OneCycle`: its peak), above 0.
    every : {"epoch", "update"}, default "epoch"
        What a position counts, from 0: the epochs done so far, or the optimizer's updates.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    def __init__(self, lr: float, *, every: str = "epoch") -> None:
        self._require(0.0 < lr < math.inf, f"lr must be finite and above 0, got {lr!r}")
        self._require(every in ("epoch", "update"), f"every must be 'epoch' or 'update', got {every!r}")
        self.lr, self.every = float(lr), every

    def __call__(self, position: int) -> float:
        """Return the learning rate at a position, 0 being the first epoch or update."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(position) -> lr")

    @property
    def watch(self) -> str:
        """What `observe` wants to be given: "loss" or "accuracy"."""
        return "loss"

    def observe(self, value: float) -> None:
        """Take note of what was measured after an epoch; only `Plateau` does."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the position: nothing, except for `Plateau`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        WeightsError
            If it is the state of another kind of schedule.
        """
        self._check_names(state, self.state_dict())

    def _check_names(self, state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        if set(state) != set(expected):
            raise WeightsError(
                f"{type(self).__name__}: the state holds {sorted(state)} but {sorted(expected)} is expected; "
                "it was saved by another kind of schedule"
            )

    def _require(self, fits: bool, message: str) -> None:
        if not fits:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _length(self, name: str, value: int) -> int:
        whole = isinstance(value, int) and value >= 1
        self._require(whole, f"{name} must be a whole number, at least 1, got {value!r}")
        return value

    def _factor(self, factor: float) -> float:
        self._require(0.0 < factor < math.inf, f"factor must be finite and above 0, got {factor!r}")
        return float(factor)

    def _minimum(self, minimum: float) -> float:
        self._require(0.0 <= minimum <= self.lr, f"minimum must be between 0 and lr ({self.lr}), got {minimum!r}")
        return float(minimum)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


class Function(Schedule):
    """Any function of the position: ``Function(lambda epoch: 0.1 * 0.9**epoch)``.

    Parameters
    ----------
    function : callable
        Takes the position and returns the rate.
    every : {"epoch", "update"}, default "epoch"
    """

    def __init__(self, function: Callable[[int], float], *, every: str = "epoch") -> None:
        super().__init__(1.0, every=every)
        del self.lr  # the function alone knows
        self.function = function

    def __call__(self, position: int) -> float:
        return float(self.function(position))


def as_schedule(schedule: Schedule | Callable[[int], float]) -> Schedule:
    """Return a schedule; a plain function becomes one of the epoch.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if not callable(schedule):
        raise ValueError(f"schedules: expected a schedule or a function of the epoch, got {schedule!r}")
    return Function(schedule)
