"""A slow start before another schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.schedules.base import Schedule

__all__ = ["Warmup"]


class Warmup(Schedule):
    """A straight line up to where another schedule starts, which then runs from its own position 0.

    ``schedule(0) * (start + (1 - start) * position / length)`` below `length`, then
    ``schedule(position - length)``.

    Parameters
    ----------
    schedule : Schedule
        Positions are counted as it counts them.
    length : int
        Positions of the way up.
    start : float, 0 < start <= 1, default 0.01
        The share of the rate at position 0.

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Goyal et al., arXiv:1706.02677, section 2.2.

    Examples
    --------
    >>> from xpnet.schedules import Step, Warmup
    >>> schedule = Warmup(Step(8.0, period=2, factor=0.5), length=4, start=0.5)
    >>> [schedule(epoch) for epoch in range(8)]
    [4.0, 5.0, 6.0, 7.0, 8.0, 8.0, 4.0, 4.0]
    """

    def __init__(self, schedule: Schedule, *, length: int, start: float = 0.01) -> None:
        if not isinstance(schedule, Schedule):
            raise ValueError(f"Warmup: expected a schedule to go before, got {schedule!r}")
        super().__init__(1.0, every=schedule.every)
        del self.lr  # that of the other schedule counts
        self.schedule, self.length, self.start = schedule, self._length("length", length), float(start)
        self._require(0.0 < start <= 1.0, f"start must be above 0 and at most 1, got {start!r}")

    def __call__(self, position: int) -> float:
        if position >= self.length:
            return self.schedule(position - self.length)
        return self.schedule(0) * (self.start + (1.0 - self.start) * position / self.length)

    @property
    def watch(self) -> str:
        """What the other schedule wants to observe."""
        return self.schedule.watch

    def observe(self, value: float) -> None:
        """Pass on what was measured."""
        self.schedule.observe(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the other schedule."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of the other schedule."""
        self.schedule.load_state_dict(state)
