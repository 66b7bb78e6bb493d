"""Looking at what every layer of a running model returns, without changing the layers."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xpnet import config
from xpnet.backend import Array

if TYPE_CHECKING:
    from xpnet.layers.base import Layer

__all__ = ["Observer", "current_observer", "is_looked_into", "observing"]


class Observer:
    """Is told of every forward and backward of every layer inside a ``with observing(observer):`` block.

    A layer made of layers reports after those it is made of. What a method returns is passed on in place of
    the layer's result; these pass on the result itself.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense, Observer, ReLU, Sequential, observing
    >>> class Shapes(Observer):
    ...     def after_forward(self, layer, x, y):
    ...         print(type(layer).__name__, y.shape)
    ...         return y
    >>> with observing(Shapes()):
    ...     y = Sequential(Dense(3), ReLU()).predict(np.ones((2, 4)))
    Dense (2, 3)
    ReLU (2, 3)
    Sequential (2, 3)
    """

    def after_forward(self, layer: Layer, x: Array, y: Array) -> Array:
        """Look at `y`, which the layer made of `x`; return it or another array of its kind."""
        return y

    def after_backward(self, layer: Layer, dy: Array, dx: Array | None) -> Array | None:
        """Look at `dx`, which the layer made of `dy` (None where nobody needs it), and at the layer's gradients."""
        return dx


# of the thread or task, as the choice of a backend by `using` is
_observer: contextvars.ContextVar[Observer | None] = contextvars.ContextVar("xpnet_observer", default=None)

current_observer = _observer.get


def is_looked_into() -> bool:
    """Tell whether an observer or the setting ``nan_guard`` looks at what each layer returns."""
    return _observer.get() is not None or bool(config.get("nan_guard"))


@contextlib.contextmanager
def observing(observer: Observer) -> Iterator[Observer]:
    """Let `observer` see the layers for the length of a ``with`` block, in this thread (or task) alone.

    Within another such block it takes the place of that block's observer.

    Examples
    --------
    See `Observer`.
    """
    token = _observer.set(observer)
    try:
        yield observer
    finally:
        _observer.reset(token)
