"""Schedules that are formulas of the position: steps, powers, waves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from xpnet.schedules.base import Schedule

__all__ = ["Cosine", "Exponential", "MultiStep", "OneCycle", "Polynomial", "Step"]


class Step(Schedule):
    """Times `factor` after every `period` positions: ``lr * factor ** (position // period)``.

    Parameters
    ----------
    lr : float
    period : int
    factor : float, default 0.1
    every : {"epoch", "update"}, default "epoch"

    Examples
    --------
    >>> from xpnet.schedules import Step
    >>> [Step(8.0, period=2, factor=0.5)(epoch) for epoch in range(5)]
    [8.0, 8.0, 4.0, 4.0, 2.0]
    """

    def __init__(self, lr: float, *, period: int, factor: float = 0.1, every: str = "epoch") -> None:
        super().__init__(lr, every=every)
        self.period, self.factor = self._length("period", period), self._factor(factor)

    def __call__(self, position: int) -> float:
        return self.lr * self.factor ** (position // self.period)


class MultiStep(Schedule):
    """Times `factor` at each milestone: ``lr * factor ** (milestones reached)``.

    Parameters
    ----------
    lr : float
    milestones : sequence of int
        The positions from which the rate is smaller, ascending.
    factor : float, default 0.1
    every : {"epoch", "update"}, default "epoch"

    Examples
    --------
    >>> from xpnet.schedules import MultiStep
    >>> [MultiStep(8.0, milestones=[1, 3], factor=0.5)(epoch) for epoch in range(5)]
    [8.0, 4.0, 4.0, 2.0, 2.0]
    """

    def __init__(self, lr: float, *, milestones: Sequence[int], factor: float = 0.1, every: str = "epoch") -> None:
        super().__init__(lr, every=every)
        whole = isinstance(milestones, Iterable) and all(hasattr(m, "__index__") for m in milestones)
        self._require(whole, f"milestones must be a list of whole numbers, got {milestones!r}")
        self.milestones, self.factor = list(milestones), self._factor(factor)
        ascending = self.milestones == sorted(self.milestones)
        self._require(ascending, f"milestones must be ascending, got {self.milestones!r}")

    def __call__(self, position: int) -> float:
        return self.lr * self.factor ** sum(position >= milestone for milestone in self.milestones)


class Exponential(Schedule):
    """Times `factor` at every position: ``lr * factor ** position``.

    Parameters
    ----------
    lr : float
    factor : float
        Such as 0.95.
    every : {"epoch", "update"}, default "epoch"
    """

    def __init__(self, lr: float, *, factor: float, every: str = "epoch") -> None:
        super().__init__(lr, every=every)
        self.factor = self._factor(factor)

    def __call__(self, position: int) -> float:
        return self.lr * self.factor**position


class Polynomial(Schedule):
    """Down to `minimum` at `length`: ``minimum + (lr - minimum) * (1 - position / length) ** power``.

    Parameters
    ----------
    lr : float
    length : int
        The position from which the rate stays at the minimum.
    power : float, default 1
        1 is a straight line.
    minimum : float, default 0
    every : {"epoch", "update"}, default "epoch"
    """

    def __init__(
        self, lr: float, *, length: int, power: float = 1.0, minimum: float = 0.0, every: str = "epoch"
    ) -> None:
        super().__init__(lr, every=every)
        self.length, self.power, self.minimum = self._length("length", length), float(power), self._minimum(minimum)
        self._require(power > 0.0, f"power must be above 0, got {power!r}")

    def __call__(self, position: int) -> float:
        left = 1.0 - min(position, self.length) / self.length
        return self.minimum + (self.lr - self.minimum) * left**self.power


class Cosine(Schedule):
    """Half a wave from `lr` to `minimum` over `period` positions; then at the minimum, or anew.

    ``minimum + (lr - minimum) * (1 + cos(pi * t / T)) / 2``, t of T positions into the period.

    Parameters
    ----------
    lr : float
    period : int
        T of the first period.
    minimum : float, default 0
    restarts : bool, default False
        Whether a new period begins where one ends; else the rate stays at the minimum.
    growth : int, default 1
        How many times as long each period is as the one before.
    every : {"epoch", "update"}, default "epoch"

    References
    ----------
    Loshchilov and Hutter, *SGDR*, arXiv:1608.03983.

    Examples
    --------
    >>> from xpnet.schedules import Cosine
    >>> [round(Cosine(1.0, period=2, restarts=True)(epoch), 3) for epoch in range(5)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        lr: float,
        *,
        period: int,
        minimum: float = 0.0,
        restarts: bool = False,
        growth: int = 1,
        every: str = "epoch",
    ) -> None:
        super().__init__(lr, every=every)
        self.period, self.minimum = self._length("period", period), self._minimum(minimum)
        self.restarts, self.growth = restarts, self._length("growth", growth)

    def __call__(self, position: int) -> float:
        t, period = position, self.period
        if not self.restarts:
            t = min(t, period)
        elif self.growth == 1:
            t %= period
        else:
            while t >= period:
                t, period = t - period, period * self.growth
        return self.minimum + (self.lr - self.minimum) * 0.5 * (1.0 + math.cos(math.pi * t / period))


class OneCycle(Schedule):
    """Up to `lr` and down again in one run: ``lr/start`` to ``lr`` to ``lr/(start * final)``.

    Parameters
    ----------
    lr : float
        The peak.
    length : int
        Positions in all; the last, and all after it, have the final rate.
    rise : float, 0 < rise < 1, default 0.3
        The share of the way up.
    start : float, default 25
    final : float, default 10000
    shape : {"cosine", "linear"}, default "cosine"
    every : {"epoch", "update"}, default "update"

    References
    ----------
    Smith and Topin, *Super-convergence*, arXiv:1708.07120.
    """

    def __init__(
        self,
        lr: float,
        *,
        length: int,
        rise: float = 0.3,
        start: float = 25.0,
        final: float = 1e4,
        shape: str = "cosine",
        every: str = "update",
    ) -> None:
        super().__init__(lr, every=every)
        self.length, self.rise = self._length("length", length), float(rise)
        self.start, self.final, self.shape = float(start), float(final), shape
        self._require(0.0 < rise < 1.0, f"rise must be between 0 and 1, got {rise!r}")
        self._require(
            start >= 1.0 and final > 0.0, f"start must be at least 1, final above 0; got {start!r}, {final!r}"
        )
        self._require(shape in ("cosine", "linear"), f"shape must be 'cosine' or 'linear', got {shape!r}")
        self._require(rise * length > 1.0, f"length must be above 1/rise, so that there is a way up; got {length!r}")

    def __call__(self, position: int) -> float:
        top = self.rise * self.length - 1.0  # where the peak is; the last position is length - 1
        first, last = self.lr / self.start, self.lr / (self.start * self.final)
        if position <= top:
            return self._between(first, self.lr, position / top)
        return self._between(self.lr, last, min((position - top) / (self.length - 1.0 - top), 1.0))

    def _between(self, a: float, b: float, share: float) -> float:
        if self.shape == "linear":
            return a + (b - a) * share
        return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * share))
