"""Losses of predictions that are numbers: mean squared error, mean absolute error, huber."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_arrays
from xpnet.functional.loss_checks import check_finite, check_same_shape, check_scale, scale_as
from xpnet.kernels import find

__all__ = [
    "REDUCTIONS",
    "HuberCtx",
    "MeanAbsoluteErrorCtx",
    "MeanSquaredErrorCtx",
    "check_delta",
    "huber_backward",
    "huber_forward",
    "mean_absolute_error_backward",
    "mean_absolute_error_forward",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
]


class MeanSquaredErrorCtx(NamedTuple):
    """Kept for backward: the difference y - t, an array of the shape of y in at least float32."""

    difference: Array
    factor: float  # d loss / d y = factor * difference
    dtype: Any  # of y


REDUCTIONS = ("mean", "half_sum")


def mean_squared_error_forward(y: Array, t: Array, *, reduction: str = "mean") -> tuple[Array, MeanSquaredErrorCtx]:
    r"""Return the squared error of predictions.

    ``"mean"`` is the mean over all elements, :math:`\frac1{NK}\sum (y - t)^2`; ``"half_sum"`` the
    book's, :math:`\frac1N \sum_n \frac12 \sum_k (y_{nk} - t_{nk})^2`.

    Parameters
    ----------
    y : array (N, ...), float
        Predictions.
    t : array, shape and type of `y`
        Targets.
    reduction : {"mean", "half_sum"}, default "mean"

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : MeanSquaredErrorCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    ArgumentError
        If the reduction is unknown.
    NonFiniteError
        If the loss is not finite; on a GPU, where looking would stall, it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mean_squared_error_forward
    >>> float(mean_squared_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))[0])
    2.0
    """
    op = "mean_squared_error"
    xp = check_arrays(op, y=y, t=t)
    check_same_shape(op, "y", y, t)
    if reduction not in REDUCTIONS:
        raise ArgumentError(op, f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    factor = 2.0 / math.prod(y.shape) if reduction == "mean" else 1.0 / y.shape[0]
    loss, difference = find("mean_squared_error_forward", xp)(y, t, factor)
    check_finite(op, loss, y=y, t=t)
    return loss, MeanSquaredErrorCtx(difference, factor, y.dtype)


def mean_squared_error_backward(dy: Array | float, ctx: MeanSquaredErrorCtx) -> Array:
    """Return d loss / d y: ``2 (y - t) / (N K)``, or ``(y - t) / N`` with "half_sum", times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : MeanSquaredErrorCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mean_squared_error_backward, mean_squared_error_forward
    >>> loss, ctx = mean_squared_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    >>> mean_squared_error_backward(1.0, ctx)
    array([[ 0., -2.]])
    """
    xp = check_scale("mean_squared_error_backward", dy, ctx.difference)
    dy = scale_as(xp, dy, ctx.difference.dtype)
    return find("mean_squared_error_backward", xp)(dy, ctx.difference, ctx.factor, ctx.dtype)


class MeanAbsoluteErrorCtx(NamedTuple):
    """Kept for backward: the difference y - t, an array of the shape of y in at least float32."""

    difference: Array
    dtype: Any  # of y


def mean_absolute_error_forward(y: Array, t: Array) -> tuple[Array, MeanAbsoluteErrorCtx]:
    r"""Return the mean over all elements of the absolute error.

    .. math:: L = \frac1{NK}\sum |y - t|

    Parameters
    ----------
    y : array (N, ...), float
        Predictions.
    t : array, shape and type of `y`
        Targets.

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : MeanAbsoluteErrorCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    NonFiniteError
        If the loss is not finite; on a GPU, where looking would stall, it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mean_absolute_error_forward
    >>> float(mean_absolute_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))[0])
    1.0
    """
    op = "mean_absolute_error"
    xp = check_arrays(op, y=y, t=t)
    check_same_shape(op, "y", y, t)
    loss, difference = find("mean_absolute_error_forward", xp)(y, t)
    check_finite(op, loss, y=y, t=t)
    return loss, MeanAbsoluteErrorCtx(difference, y.dtype)


def mean_absolute_error_backward(dy: Array | float, ctx: MeanAbsoluteErrorCtx) -> Array:
    """Return d loss / d y: the sign of y - t over the number of elements (0 where they are equal), times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : MeanAbsoluteErrorCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mean_absolute_error_backward, mean_absolute_error_forward
    >>> loss, ctx = mean_absolute_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    >>> mean_absolute_error_backward(1.0, ctx)
    array([[ 0. , -0.5]])
    """
    xp = check_scale("mean_absolute_error_backward", dy, ctx.difference)
    dy = scale_as(xp, dy, ctx.difference.dtype)
    return find("mean_absolute_error_backward", xp)(dy, ctx.difference, ctx.dtype)


class HuberCtx(NamedTuple):
    """Kept for backward: the difference y - t, an array of the shape of y in at least float32."""

    difference: Array
    delta: float
    dtype: Any  # of y


def huber_forward(y: Array, t: Array, *, delta: float = 1.0) -> tuple[Array, HuberCtx]:
    r"""Return the mean over all elements of the huber loss: squared near the target, linear far from it.

    .. math:: L = \frac1{NK}\sum h(y - t), \quad
        h(d) = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & \text{else} \end{cases}

    Parameters
    ----------
    y : array (N, ...), float
        Predictions.
    t : array, shape and type of `y`
        Targets.
    delta : float, above 0, default 1
        Where the line begins.

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : HuberCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    ArgumentError
        If delta is not above 0 or not finite.
    NonFiniteError
        If the loss is not finite; on a GPU, where looking would stall, it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Huber, *Robust estimation of a location parameter* (1964).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import huber_forward
    >>> float(huber_forward(np.array([[1.0, 2.0]]), np.array([[2.0, 5.0]]))[0])  # mean of 0.5 and 2.5
    1.5
    """
    op = "huber"
    xp = check_arrays(op, y=y, t=t)
    check_same_shape(op, "y", y, t)
    check_delta(op, delta)
    loss, difference = find("huber_forward", xp)(y, t, float(delta))
    check_finite(op, loss, y=y, t=t)
    return loss, HuberCtx(difference, float(delta), y.dtype)


def huber_backward(dy: Array | float, ctx: HuberCtx) -> Array:
    """Return d loss / d y: y - t clipped to +-delta, over the number of elements, times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : HuberCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import huber_backward, huber_forward
    >>> loss, ctx = huber_forward(np.array([[1.0, 2.0]]), np.array([[1.5, 5.0]]))
    >>> huber_backward(1.0, ctx)
    array([[-0.25, -0.5 ]])
    """
    xp = check_scale("huber_backward", dy, ctx.difference)
    dy = scale_as(xp, dy, ctx.difference.dtype)
    return find("huber_backward", xp)(dy, ctx.difference, ctx.delta, ctx.dtype)


def check_delta(operation: str, delta: float) -> None:
    """Refuse a place for the line to begin that is none."""
    if not 0.0 < delta < math.inf:
        raise ArgumentError(operation, f"delta must be finite and above 0, got {delta!r}")
