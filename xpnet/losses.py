"""Losses with the face of a layer: ``value = loss.forward(y, t)`` and ``dy = loss.backward()``."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError, StateError
from xpnet.functional import (
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from xpnet.functional.loss import REDUCTIONS

__all__ = ["Loss", "MeanSquaredError", "SoftmaxCrossEntropy", "by_name"]


class Loss:
    """Base of the losses; a subclass gives `_forward` and `_backward`."""

    def __init__(self) -> None:
        self._ctx: Any = None

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _forward(y, t) -> (loss, ctx)")

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define _backward(dy, ctx) -> dx")

    def forward(self, y: Array, t: Array) -> Array:
        """Return the loss, a 0-d array, and keep what `backward` needs.

        Parameters
        ----------
        y : array
            Output of the model.
        t : array
            Labels or targets.
        """
        self._ctx = None  # so that a backward after a failed forward is refused
        loss, self._ctx = self._forward(y, t)
        return loss

    def backward(self, dy: Array | float = 1.0) -> Array:
        """Return the gradient with respect to the output of the model.

        Parameters
        ----------
        dy : 0-d array or float, default 1
            Factor on the gradient, as for the scaling of losses.

        Raises
        ------
        StateError
            If there was no forward since the last backward.
        """
        if self._ctx is None:
            raise StateError(type(self).__name__, "backward without a forward; call forward(y, t) first")
        ctx, self._ctx = self._ctx, None
        return self._backward(dy, ctx)

    def __call__(self, y: Array, t: Array) -> Array:
        """Return the loss without keeping anything."""
        return self._forward(y, t)[0]


class SoftmaxCrossEntropy(Loss):
    """Softmax and cross entropy for classification; see `softmax_cross_entropy_forward`.

    Parameters
    ----------
    label_smoothing : float, 0 <= label_smoothing < 1, default 0

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import SoftmaxCrossEntropy
    >>> loss = SoftmaxCrossEntropy()
    >>> round(float(loss.forward(np.zeros((1, 2)), np.array([0]))), 4)
    0.6931
    >>> loss.backward()
    array([[-0.5,  0.5]])
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ArgumentError(
                "SoftmaxCrossEntropy",
                f"label_smoothing must be at least 0 and below 1, got {label_smoothing!r}",
            )
        self.label_smoothing = label_smoothing

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return softmax_cross_entropy_forward(y, t, label_smoothing=self.label_smoothing)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return softmax_cross_entropy_backward(dy, ctx)


class MeanSquaredError(Loss):
    """Mean squared error, or the book's half sum of squares; see `mean_squared_error_forward`.

    Parameters
    ----------
    reduction : {"mean", "half_sum"}, default "mean"

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import MeanSquaredError
    >>> float(MeanSquaredError()(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    2.0
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ArgumentError(
                "MeanSquaredError", f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}"
            )
        self.reduction = reduction

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return mean_squared_error_forward(y, t, reduction=self.reduction)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return mean_squared_error_backward(dy, ctx)


_NAMES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
}


def by_name(name: str | Loss) -> Loss:
    """Return the loss of that name with its defaults; a loss passes through.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(name, Loss):
        return name
    if name not in _NAMES:
        raise ValueError(f"losses: no loss {name!r}; there are {', '.join(_NAMES)}")
    return _NAMES[name]()
