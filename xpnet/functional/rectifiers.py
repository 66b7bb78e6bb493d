"""Relatives of relu with a slope below zero too: leaky_relu, and prelu, which learns it."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_not_negative
from xpnet.kernels import find

__all__ = [
    "LeakyReLUCtx",
    "PReLUCtx",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "prelu_backward",
    "prelu_forward",
]


class LeakyReLUCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array
    slope: float


def leaky_relu_forward(x: Array, *, slope: float = 0.01) -> tuple[Array, LeakyReLUCtx]:
    """Return y = x where x > 0, else slope * x.

    Parameters
    ----------
    x : array of any shape, float
    slope : float, at least 0, default 0.01

    Returns
    -------
    y : array, shape and type of `x`
    ctx : LeakyReLUCtx

    Raises
    ------
    ArgumentError
        If the slope is negative or not finite.
    DTypeError
        If `x` is no float array.

    References
    ----------
    Maas, Hannun and Ng, *Rectifier nonlinearities improve neural network acoustic models* (2013).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import leaky_relu_forward
    >>> leaky_relu_forward(np.array([-1.0, 0.0, 2.0]), slope=0.25)[0]
    array([-0.25,  0.  ,  2.  ])
    """
    xp = check_arrays("leaky_relu", x=x)
    check_not_negative("leaky_relu", slope=slope)
    y = find("leaky_relu_forward", xp)(x, float(slope))
    return y, LeakyReLUCtx(y, float(slope))


def leaky_relu_backward(dy: Array, ctx: LeakyReLUCtx) -> Array:
    """Return dx = dy where y > 0, else slope * dy (at 0 too).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : LeakyReLUCtx

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
    >>> from xpnet.functional import leaky_relu_backward, leaky_relu_forward
    >>> y, ctx = leaky_relu_forward(np.array([-1.0, 0.0, 2.0]), slope=0.25)
    >>> leaky_relu_backward(np.array([4.0, 4.0, 4.0]), ctx)
    array([1., 1., 4.])
    """
    xp = check_gradient("leaky_relu_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("leaky_relu_backward", xp)(dy, ctx.y, ctx.slope)


class PReLUCtx(NamedTuple):
    """Kept for backward: the input and the slopes themselves, nothing new."""

    x: Array
    slope: Array  # (1,) or (C,)


def prelu_forward(x: Array, slope: Array) -> tuple[Array, PReLUCtx]:
    """Return y = x where x > 0, else slope * x, with slopes that are learnt.

    Parameters
    ----------
    x : array (N, C, ...), or of any shape with a single slope, float
    slope : array (1,) or (C,), the type of `x`
        One for all, or one for each channel or feature.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : PReLUCtx

    Raises
    ------
    ShapeError
        If there are neither one slope nor as many as channels.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    He et al., *Delving deep into rectifiers*, arXiv:1502.01852.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import prelu_forward
    >>> prelu_forward(np.array([[-1.0, -1.0], [2.0, -2.0]]), np.array([0.5, 0.25]))[0]
    array([[-0.5 , -0.25],
           [ 2.  , -0.5 ]])
    """
    xp = check_arrays("prelu", x=x, slope=slope)
    shape = tuple(slope.shape)
    if shape != (1,) and (len(x.shape) < 2 or shape != (x.shape[1],)):
        raise ShapeError(
            "prelu",
            f"slope must have shape (1,), or (C,) like axis 1 of x, got {shape} (x.shape={tuple(x.shape)})",
        )
    return find("prelu_forward", xp)(x, slope), PReLUCtx(x, slope)


def prelu_backward(dy: Array, ctx: PReLUCtx) -> tuple[Array, Array]:
    """Return dx = dy where x > 0, else slope * dy, and dslope = sum of dy * x over x <= 0.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : PReLUCtx

    Returns
    -------
    dx : array, shape of y
    dslope : array, shape of the slopes

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import prelu_backward, prelu_forward
    >>> y, ctx = prelu_forward(np.array([[-1.0, -1.0], [2.0, -2.0]]), np.array([0.5, 0.25]))
    >>> prelu_backward(np.ones((2, 2)), ctx)
    (array([[0.5 , 0.25],
           [1.  , 0.25]]), array([-1., -3.]))
    """
    xp = check_gradient("prelu_backward", dy, ctx.x, tuple(ctx.x.shape))
    return find("prelu_backward", xp)(dy, ctx.x, ctx.slope)
