"""Losses with the face of a layer: ``value = loss.forward(y, t)`` and ``dy = loss.backward()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, array_namespace, bounded, device_of, to_numpy, wide_dtype
from xpnet.errors import ArgumentError, StateError
from xpnet.functional import (
    binary_cross_entropy_backward,
    binary_cross_entropy_forward,
    hinge_backward,
    hinge_forward,
    huber_backward,
    huber_forward,
    kl_divergence_backward,
    kl_divergence_forward,
    mean_absolute_error_backward,
    mean_absolute_error_forward,
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from xpnet.functional.checks import check_arrays
from xpnet.functional.regression_loss import REDUCTIONS, check_delta
from xpnet.text import no_such

__all__ = [
    "BinaryCrossEntropy",
    "Hinge",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "by_name",
]


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

    def weight(self, y: Array, t: Array) -> Array | float:
        """Return what the mean over the batch has been divided by, up to a factor that is the same for all batches.

        That is the number of samples, or where samples weigh differently or are left out, the sum of their
        weights: what losses of several batches must be averaged with.

        Parameters
        ----------
        y : array
            Output of the model.
        t : array
            Labels or targets.

        Returns
        -------
        float or 0-d array in at least float32
        """
        return float(y.shape[0])

    def __call__(self, y: Array, t: Array) -> Array:
        """Return the loss without keeping anything."""
        return self._forward(y, t)[0]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> dict[str, Any]:
        """Return the settings that `repr` shows: those that are not the default."""
        return {}


class _Weights:
    """Weights given as numbers, as arrays where a loss needs them; the latest is kept for the next step."""

    def __init__(self, operation: str, name: str, values: Sequence[float] | Array | None) -> None:
        self._operation = operation
        self.values: Any = None
        if values is not None:
            host = np.array(values if isinstance(values, Sequence) else to_numpy(values), np.float64)
            if host.ndim != 1 or not np.isfinite(host).all() or (host < 0.0).any():
                raise ArgumentError(operation, f"{name} must be one number a class, finite and at least 0, got {host}")
            self.values = host
        self._array: Any = None

    def settings(self, name: str) -> dict[str, Any]:
        """Return the weights as the one setting `name`, or nothing if there are none."""
        return {} if self.values is None else {name: self.values.tolist()}

    def beside(self, y: Array) -> Array | None:
        """Return the weights in the library and device of `y`, in its type or, for a half type, in float32."""
        if self.values is None:
            return None
        xp = check_arrays(self._operation, y=y)
        wide = wide_dtype(xp, y.dtype)
        a = self._array
        if a is None or type(a) is not type(y) or a.dtype != wide or device_of(a) != device_of(y):
            self._array = xp.asarray(self.values, dtype=wide, device=device_of(y))
        return self._array


class SoftmaxCrossEntropy(Loss):
    """Softmax and cross entropy for classification; see `softmax_cross_entropy_forward`.

    Parameters
    ----------
    label_smoothing : float, 0 <= label_smoothing < 1, default 0
    class_weights : sequence of float or array (K,), optional
        Weight of each class in the mean.
    ignore_index : int, optional
        Label of rows that are left out.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

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

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | Array | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ArgumentError(
                "SoftmaxCrossEntropy",
                f"label_smoothing must be at least 0 and below 1, got {label_smoothing!r}",
            )
        self.label_smoothing = label_smoothing
        self.class_weights = _Weights("SoftmaxCrossEntropy", "class_weights", class_weights)
        self.ignore_index = ignore_index

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
        shown |= self.class_weights.settings("class_weights")
        return shown if self.ignore_index is None else shown | {"ignore_index": self.ignore_index}

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return softmax_cross_entropy_forward(
            y,
            t,
            self.class_weights.beside(y),
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
        )

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return softmax_cross_entropy_backward(dy, ctx)

    def weight(self, y: Array, t: Array) -> Array | float:
        """Return the sum of the class weights of the rows that are not left out; without weights, their number."""
        if self.class_weights.values is None and self.ignore_index is None:
            return float(y.shape[0])
        xp = array_namespace(y)
        wide = wide_dtype(xp, y.dtype)  # bfloat16 counts no further than 256
        weights = self.class_weights.beside(y)
        if len(t.shape) == 2:
            rows = xp.astype(t, wide, copy=False)
            return xp.sum(rows if weights is None else rows * weights)
        t = xp.astype(t, xp.int64, copy=False)  # uint8 has no -1 to be compared with
        kept = None if self.ignore_index is None else xp.astype(t != int(self.ignore_index), wide)
        if weights is None:
            return xp.sum(kept)
        # labels that are no class are for forward to refuse: here they weigh as much as the class next to them
        each = xp.take(weights, bounded(xp, t, 0, weights.shape[0] - 1))
        return xp.sum(each if kept is None else each * kept)


class BinaryCrossEntropy(Loss):
    """Sigmoid and cross entropy for yes-or-no answers; see `binary_cross_entropy_forward`.

    Parameters
    ----------
    positive_weight : sequence of float or array (K,), optional
        Weight of the positive answers, for each of the K on the last axis.

    Raises
    ------
    ArgumentError
        If a weight is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import BinaryCrossEntropy
    >>> round(float(BinaryCrossEntropy()(np.zeros((1, 2)), np.array([[0, 1]]))), 4)
    0.6931
    """

    def __init__(self, *, positive_weight: Sequence[float] | Array | None = None) -> None:
        super().__init__()
        self.positive_weight = _Weights("BinaryCrossEntropy", "positive_weight", positive_weight)

    def _settings(self) -> dict[str, Any]:
        return self.positive_weight.settings("positive_weight")

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return binary_cross_entropy_forward(y, t, self.positive_weight.beside(y))

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return binary_cross_entropy_backward(dy, ctx)


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

    def _settings(self) -> dict[str, Any]:
        return {} if self.reduction == "mean" else {"reduction": self.reduction}

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return mean_squared_error_forward(y, t, reduction=self.reduction)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return mean_squared_error_backward(dy, ctx)


class MeanAbsoluteError(Loss):
    """Mean over all elements of the absolute error; see `mean_absolute_error_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import MeanAbsoluteError
    >>> float(MeanAbsoluteError()(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    1.0
    """

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return mean_absolute_error_forward(y, t)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return mean_absolute_error_backward(dy, ctx)


class Huber(Loss):
    """Squared error near the target, absolute error far from it; see `huber_forward`.

    Parameters
    ----------
    delta : float, above 0, default 1

    Raises
    ------
    ArgumentError
        If delta is not above 0 or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import Huber
    >>> float(Huber()(np.array([[1.0, 2.0]]), np.array([[2.0, 5.0]])))
    1.5
    """

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__()
        check_delta("Huber", delta)
        self.delta = delta

    def _settings(self) -> dict[str, Any]:
        return {} if self.delta == 1.0 else {"delta": self.delta}

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return huber_forward(y, t, delta=self.delta)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return huber_backward(dy, ctx)


class Hinge(Loss):
    """Mean of max(0, 1 - t * y) for targets of -1 and +1; see `hinge_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import Hinge
    >>> float(Hinge()(np.array([2.0, 0.5, 3.0]), np.array([1, 1, -1])))
    1.5
    """

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return hinge_forward(y, t)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return hinge_backward(dy, ctx)


class KLDivergence(Loss):
    """Divergence of predicted log-probabilities from target probabilities; see `kl_divergence_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.losses import KLDivergence
    >>> round(float(KLDivergence()(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]))), 4)
    0.6931
    """

    def _forward(self, y: Array, t: Array) -> tuple[Array, Any]:
        return kl_divergence_forward(y, t)

    def _backward(self, dy: Array | float, ctx: Any) -> Array:
        return kl_divergence_backward(dy, ctx)


_NAMES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "hinge": Hinge,
    "huber": Huber,
    "kl_divergence": KLDivergence,
    "mean_absolute_error": MeanAbsoluteError,
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
        raise ValueError(f"losses: {no_such('loss', name, _NAMES)}")
    return _NAMES[name]()
