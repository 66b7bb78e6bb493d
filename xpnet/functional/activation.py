"""The activations of the book, relu, sigmoid and tanh, and what all activations share.

Backward keeps the output wherever the derivative can be had from it: the next layer keeps that as its
input anyway.
"""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find
from xpnet.kernels.layout import elementwise

__all__ = [
    "ActivationCtx",
    "InputCtx",
    "ShapeCtx",
    "relu_backward",
    "relu_backward_of_new",
    "relu_forward",
    "relu_of_new",
    "sigmoid_backward",
    "sigmoid_backward_of_new",
    "sigmoid_forward",
    "sigmoid_of_new",
    "tanh_backward",
    "tanh_backward_of_new",
    "tanh_forward",
]


class ActivationCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array


class InputCtx(NamedTuple):
    """Kept for backward: the input itself, nothing new."""

    x: Array


class ShapeCtx(NamedTuple):
    """Kept for backward: a shape, no array."""

    shape: tuple[int, ...]


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
    y = find("relu_forward", xp)(x, False)
    return y, ActivationCtx(y)


def relu_of_new(x: Array) -> tuple[Array, ActivationCtx]:
    """As `relu_forward`, of an array that nobody else keeps: its memory may be used for y."""
    y = find("relu_forward", check_arrays("relu", x=x))(x, True)
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
    return find("relu_backward", xp)(dy, ctx.y, False)


def relu_backward_of_new(dy: Array, ctx: ActivationCtx) -> Array:
    """As `relu_backward`, of an array that nobody else keeps: its memory may be used for dx."""
    xp = check_gradient("relu_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("relu_backward", xp)(dy, ctx.y, True)


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
    y = find("sigmoid_forward", xp)(x, False)
    return y, ActivationCtx(y)


def sigmoid_of_new(x: Array) -> tuple[Array, ActivationCtx]:
    """As `sigmoid_forward`, of an array that nobody else keeps: its memory may be used for y."""
    y = find("sigmoid_forward", check_arrays("sigmoid", x=x))(x, True)
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
    return find("sigmoid_backward", xp)(dy, ctx.y, False)


def sigmoid_backward_of_new(dy: Array, ctx: ActivationCtx) -> Array:
    """As `sigmoid_backward`, of an array that nobody else keeps: its memory may be used for dx."""
    xp = check_gradient("sigmoid_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("sigmoid_backward", xp)(dy, ctx.y, True)


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
    return find("tanh_backward", xp)(dy, ctx.y, False)


def tanh_backward_of_new(dy: Array, ctx: ActivationCtx) -> Array:
    """As `tanh_backward`, of an array that nobody else keeps: its memory may be used for dx."""
    xp = check_gradient("tanh_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("tanh_backward", xp)(dy, ctx.y, True)
