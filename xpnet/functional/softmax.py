"""Softmax and its logarithm."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find

__all__ = [
    "SoftmaxCtx",
    "log_softmax_backward",
    "log_softmax_forward",
    "softmax_backward",
    "softmax_forward",
]


class SoftmaxCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array
    axis: int


def _check_axis(operation: str, x: Array, axis: int) -> None:
    if not -len(x.shape) <= axis < len(x.shape) or x.shape[axis] == 0:
        raise ArgumentError(operation, f"axis {axis} of x is missing or empty (x.shape={tuple(x.shape)})")


def softmax_forward(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCtx]:
    """Return y = exp(x) / sum of exp(x) along an axis, without overflow.

    Parameters
    ----------
    x : array of any shape, float
    axis : int, default -1

    Returns
    -------
    y : array, shape and type of `x`
        Sums to one along the axis.
    ctx : SoftmaxCtx

    Raises
    ------
    ArgumentError
        If `x` has no such axis, or it is empty.
    DTypeError
        If `x` is no float array.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 3.5.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softmax_forward
    >>> softmax_forward(np.array([1000.0, 1000.0]))[0]
    array([0.5, 0.5])
    """
    xp = check_arrays("softmax", x=x)
    _check_axis("softmax", x, axis)
    y = find("softmax_forward", xp)(x, axis)
    return y, SoftmaxCtx(y, axis)


def softmax_backward(dy: Array, ctx: SoftmaxCtx) -> Array:
    """Return dx = y * (dy - sum of dy * y along the axis).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : SoftmaxCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softmax_backward, softmax_forward
    >>> y, ctx = softmax_forward(np.array([0.0, 0.0]))
    >>> softmax_backward(np.array([1.0, 0.0]), ctx)
    array([ 0.25, -0.25])
    """
    xp = check_gradient("softmax_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("softmax_backward", xp)(dy, ctx.y, ctx.axis)


def log_softmax_forward(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCtx]:
    """Return y = x - log(sum of exp(x)) along an axis, without overflow.

    In float16 what would be below the lowest finite number is that number.

    Parameters
    ----------
    x : array of any shape, float
    axis : int, default -1

    Returns
    -------
    y : array, shape and type of `x`
    ctx : SoftmaxCtx

    Raises
    ------
    ArgumentError
        If `x` has no such axis, or it is empty.
    DTypeError
        If `x` is no float array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import log_softmax_forward
    >>> np.round(log_softmax_forward(np.array([1000.0, 1000.0]))[0], 4)
    array([-0.6931, -0.6931])
    """
    xp = check_arrays("log_softmax", x=x)
    _check_axis("log_softmax", x, axis)
    y = find("log_softmax_forward", xp)(x, axis)
    return y, SoftmaxCtx(y, axis)


def log_softmax_backward(dy: Array, ctx: SoftmaxCtx) -> Array:
    """Return dx = dy - exp(y) * sum of dy along the axis.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : SoftmaxCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import log_softmax_backward, log_softmax_forward
    >>> y, ctx = log_softmax_forward(np.array([0.0, 0.0]))
    >>> log_softmax_backward(np.array([1.0, 0.0]), ctx)
    array([ 0.5, -0.5])
    """
    xp = check_gradient("log_softmax_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("log_softmax_backward", xp)(dy, ctx.y, ctx.axis)
