"""Optimizers: each updates the flat weights of a model in one pass (see `xpnet.layers.parameter`).

``optimizer.update(model)`` after ``model.backward(...)``. The state (velocities, means) is made at the
first update and belongs to that model. ``lr`` is an attribute that may be set at any time, by a schedule
of `xpnet.schedules` for instance. `EMA` keeps an average of the weights beside the model. `DynamicLossScale`
is for models in float16.
"""

from __future__ import annotations

from typing import Any

from xpnet.optim.adaptive import LAMB, AdaDelta, AdaGrad, Adam, AdamW, RMSprop
from xpnet.optim.base import Optimizer
from xpnet.optim.ema import EMA
from xpnet.optim.first_order import SGD, Lion, Momentum, Nesterov
from xpnet.optim.loss_scale import DynamicLossScale, LossScale
from xpnet.text import no_such

__all__ = [
    "EMA",
    "LAMB",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "DynamicLossScale",
    "Lion",
    "LossScale",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "by_name",
]

_NAMES: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, Momentum, Nesterov, AdaGrad, AdaDelta, RMSprop, Adam, AdamW, Lion, LAMB)
}


def by_name(name: str | Optimizer, **settings: Any) -> Optimizer:
    """Return the optimizer of that name, such as ``by_name("adam", lr=0.001)``; an optimizer passes through.

    Raises
    ------
    ValueError
        If the name is unknown, or settings are given for an optimizer that exists already.
    """
    if isinstance(name, Optimizer):
        if settings:
            raise ValueError(f"optim: {name!r} exists already; set {', '.join(settings)} on it")
        return name
    cls = _NAMES.get(name.lower()) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"optim: {no_such('optimizer', name, _NAMES)}")
    return cls(**settings)
