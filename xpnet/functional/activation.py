"""Activations: relu, sigmoid, tanh, softmax.

All of them can be differentiated from their output alone, so backward keeps the output, which the
next layer keeps as its input anyway.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from xpnet.backend import Array, wide_dtype
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels.layout import elementwise

__all__ = [
    "ActivationCtx",
    "SoftmaxCtx",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]


class ActivationCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array


def relu_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = max(x, 0).

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Nair and Hinton, *Rectified linear units improve restricted Boltzmann machines* (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import relu_forward
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    xp = check_arrays("relu", x=x)
    y = elementwise(xp, lambda a: xp.maximum(a, 0.0), x)
    return y, ActivationCtx(y)


def relu_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy where y > 0, else 0 (at 0 too).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import relu_backward, relu_forward
    >>> y, ctx = relu_forward(np.array([-1.0, 0.0, 2.0]))
    >>> relu_backward(np.array([5.0, 5.0, 5.0]), ctx)
    array([0., 0., 5.])
    """
    xp = check_gradient("relu_backward", dy, ctx.y, tuple(ctx.y.shape))
    # a product with the mask: `where` took ten times as long on a random mask (branches)
    return elementwise(xp, lambda d, y: d * xp.astype(y > 0.0, d.dtype), dy, ctx.y)


def sigmoid_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = 1 / (1 + exp(-x)), without overflow at any x.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import sigmoid_forward
    >>> sigmoid_forward(np.array([0.0, 1000.0]))[0]
    array([0.5, 1. ])
    """
    xp = check_arrays("sigmoid", x=x)
    lowest = -math.floor(math.log(float(xp.finfo(x.dtype).max)))  # exp(-x) is infinite below

    def sigmoid(a: Array) -> Array:
        e = xp.exp(-xp.maximum(a, float(lowest)))
        e += 1.0
        return 1.0 / e

    y = elementwise(xp, sigmoid, x)
    return y, ActivationCtx(y)


def sigmoid_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy * y * (1 - y).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import sigmoid_backward, sigmoid_forward
    >>> y, ctx = sigmoid_forward(np.array([0.0]))
    >>> sigmoid_backward(np.array([1.0]), ctx)
    array([0.25])
    """
    xp = check_gradient("sigmoid_backward", dy, ctx.y, tuple(ctx.y.shape))
    return elementwise(xp, lambda d, y: d * (y * (1.0 - y)), dy, ctx.y)


def tanh_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = tanh(x).

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    LeCun et al., *Efficient BackProp* (1998), section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import tanh_forward
    >>> tanh_forward(np.array([0.0, 100.0]))[0]
    array([0., 1.])
    """
    xp = check_arrays("tanh", x=x)
    y = elementwise(xp, xp.tanh, x)
    return y, ActivationCtx(y)


def tanh_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy * (1 - y^2).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import tanh_backward, tanh_forward
    >>> y, ctx = tanh_forward(np.array([0.0]))
    >>> tanh_backward(np.array([2.0]), ctx)
    array([2.])
    """
    xp = check_gradient("tanh_backward", dy, ctx.y, tuple(ctx.y.shape))
    return elementwise(xp, lambda d, y: d * (1.0 - y * y), dy, ctx.y)


class SoftmaxCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array
    axis: int


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
    if not -len(x.shape) <= axis < len(x.shape) or x.shape[axis] == 0:
        raise ArgumentError("softmax", f"axis {axis} of x is missing or empty (x.shape={tuple(x.shape)})")
    wide = xp.astype(x, wide_dtype(xp, x.dtype), copy=False)
    y = xp.exp(wide - xp.max(wide, axis=axis, keepdims=True))
    y /= xp.sum(y, axis=axis, keepdims=True)
    y = xp.astype(y, x.dtype, copy=False)
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
    inner = xp.sum(dy * ctx.y, axis=ctx.axis, keepdims=True, dtype=wide_dtype(xp, dy.dtype))
    return ctx.y * (dy - xp.astype(inner, dy.dtype, copy=False))
