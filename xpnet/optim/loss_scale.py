"""A factor on the loss that keeps small gradients of float16 above zero.

float16 knows nothing below 6e-8, and gradients often are. The loss is multiplied by a large number before backward
and the gradients are divided by it, in float32, before the optimizer looks at them. Too large a factor makes infinite
gradients: such a step is left out. (Micikevicius et al., arXiv:1710.03740.) bfloat16 has the range of float32 and
needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnet.backend import Array
from xpnet.errors import NonFiniteError

__all__ = ["DynamicLossScale", "LossScale", "as_loss_scale"]

LEAST = 2.0**-24  # float16 divided by so much reaches 1e12: a gradient that is not finite then is NaN


class LossScale:
    """A factor that stays; steps whose gradients are not finite are left out and counted.

    ``optimizer.update(model, loss_scale=scale)`` divides the gradients of a loss that was multiplied by
    ``scale.value``. Whether they are finite is read from the device, so each step waits for it.

    Parameters
    ----------
    value : float, default 65536
        A power of two changes no bit of the gradients.

    Attributes
    ----------
    value : float
    steps, skipped : int
        Steps so far, and how many of them were left out.

    Raises
    ------
    ValueError
        If value is not above 0 and finite.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.optim import SGD, LossScale
    >>> model, scale = Dense(1, init="zeros", bias=False).build((1,)), LossScale(1024.0)
    >>> for gradient in (1024.0, np.inf):
    ...     model.W.grad[...] = gradient
    ...     SGD(lr=0.5).update(model, loss_scale=scale)
    >>> float(model.W.data[0, 0]), scale.steps, scale.skipped
    (-0.5, 2, 1)
    """

    def __init__(self, value: float = 65536.0) -> None:
        if not 0.0 < value < math.inf:
            raise ValueError(f"{type(self).__name__}: value must be above 0 and finite, got {value!r}")
        self.value = float(value)
        self.steps = self.skipped = 0

    def record(self, finite: Array | bool) -> bool:
        """Count a step whose gradients are finite or not, and return which as a bool: it waits for the device."""
        ok = bool(finite)
        self.steps += 1
        self.skipped += not ok
        return ok

    def state_dict(self) -> dict[str, float | int]:
        """Return the state as plain numbers."""
        return {"value": self.value, "steps": self.steps, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            If something is missing, too many, or out of range; nothing is changed.
        """
        own = self.state_dict()
        fits = set(state) == set(own) and all(
            type(v) in (int, float) and v >= 0 and (type(own[n]) is float or type(v) is int) for n, v in state.items()
        )
        if not fits or not 0.0 < state["value"] < math.inf:
            raise ValueError(f"the state of the loss scale cannot be understood: {dict(state)!r:.200}")
        vars(self).update({name: type(own[name])(value) for name, value in state.items()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(value={self.value:g}, skipped={self.skipped} of {self.steps})"


class DynamicLossScale(LossScale):
    """A factor that is halved at infinite gradients and doubled after many finite ones, as `torch.amp.GradScaler`'s.

    Parameters
    ----------
    value : float, default 65536
        The first.
    growth : float, above 1, default 2
        Factor after `interval` steps in a row with finite gradients.
    backoff : float, 0 < backoff < 1, default 0.5
        Factor after a step whose gradients were not finite.
    interval : int, default 2000

    Attributes
    ----------
    value : float
        The next step's.
    streak : int
        Steps with finite gradients since the factor last changed.
    steps, skipped : int

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> from xpnet.optim import DynamicLossScale
    >>> scale = DynamicLossScale(8.0, interval=2)
    >>> values = []
    >>> for finite in (True, True, False, False):
    ...     ok = scale.record(finite)
    ...     values.append(scale.value)
    >>> values, scale
    ([8.0, 16.0, 8.0, 4.0], DynamicLossScale(value=4, skipped=2 of 4))
    """

    def __init__(
        self, value: float = 65536.0, *, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
    ) -> None:
        super().__init__(value)
        if not (1.0 < growth < math.inf and 0.0 < backoff < 1.0 and interval >= 1):
            raise ValueError(
                "DynamicLossScale: expected growth above 1, backoff between 0 and 1, and interval from 1 on; "
                f"got {growth!r}, {backoff!r} and {interval!r}"
            )
        self.growth, self.backoff, self.interval = float(growth), float(backoff), int(interval)
        self.streak = 0

    def record(self, finite: Array | bool) -> bool:
        """Count a step and set the factor of the next one.

        Raises
        ------
        NonFiniteError
            If gradients are not finite at any factor.
        """
        ok = super().record(finite)
        self.streak = self.streak + 1 if ok else 0
        if not ok:
            if self.value * self.backoff < LEAST:
                raise NonFiniteError(
                    "DynamicLossScale",
                    f"the gradients are not finite even if the loss is multiplied by {self.value:g}, after "
                    f"{self.skipped} skipped steps: they are NaN, not too large; lower the learning rate, check the "
                    "data, or find the layer with the setting nan_guard",
                )
            self.value *= self.backoff
        elif self.streak == self.interval:
            self.streak = 0
            if self.value * self.growth < math.inf:
                self.value *= self.growth
        return ok

    def state_dict(self) -> dict[str, float | int]:
        """Return the state as plain numbers."""
        return super().state_dict() | {"streak": self.streak}


def as_loss_scale(wanted: LossScale | float | str | None) -> LossScale | None:
    """Return a loss scale for ``"dynamic"``, a number, None, or what is one already.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if wanted is None or isinstance(wanted, LossScale):
        return wanted
    if wanted == "dynamic":
        return DynamicLossScale()
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return LossScale(wanted)
    raise ValueError(f"loss_scale must be 'dynamic', a number, a LossScale or None, got {wanted!r}")
