"""The simplest functions of each element: identity, affine, step. Backward needs no array."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.functional.activation import ShapeCtx
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels.layout import elementwise

__all__ = [
    "AffineCtx",
    "affine_backward",
    "affine_forward",
    "identity_backward",
    "identity_forward",
    "step_backward",
    "step_forward",
]


def step_forward(x: Array) -> tuple[Array, ShapeCtx]:
    """Return y = 1 where x > 0, else 0 (at 0 too).

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ShapeCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 3.2: the activation of the perceptron.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import step_forward
    >>> step_forward(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 1.])
    """
    xp = check_arrays("step", x=x)
    y = elementwise(xp, lambda a: xp.astype(a > 0.0, a.dtype), x)
    return y, ShapeCtx(tuple(x.shape))


def step_backward(dy: Array, ctx: ShapeCtx) -> Array:
    """Return dx = 0: the derivative is zero everywhere but at 0, where there is none.

    No gradient passes, so layers before a step learn nothing from what comes after it.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ShapeCtx

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
    >>> from xpnet.functional import step_backward, step_forward
    >>> y, ctx = step_forward(np.array([-1.0, 2.0]))
    >>> step_backward(np.array([5.0, 5.0]), ctx)
    array([0., 0.])
    """
    xp = check_gradient("step_backward", dy, dy, ctx.shape)
    return elementwise(xp, xp.zeros_like, dy)


def identity_forward(x: Array) -> tuple[Array, ShapeCtx]:
    """Return x itself.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ShapeCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 3.5: the output of a regression.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import identity_forward
    >>> identity_forward(np.array([-1.0, 2.0]))[0]
    array([-1.,  2.])
    """
    check_arrays("identity", x=x)
    return x, ShapeCtx(tuple(x.shape))


def identity_backward(dy: Array, ctx: ShapeCtx) -> Array:
    """Return dy itself.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ShapeCtx

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
    >>> from xpnet.functional import identity_backward, identity_forward
    >>> y, ctx = identity_forward(np.array([-1.0, 2.0]))
    >>> identity_backward(np.array([5.0, 5.0]), ctx)
    array([5., 5.])
    """
    check_gradient("identity_backward", dy, dy, ctx.shape)
    return dy


class AffineCtx(NamedTuple):
    """Kept for backward: a shape and a number, no array."""

    shape: tuple[int, ...]
    slope: float


def affine_forward(x: Array, *, slope: float = 1.0, intercept: float = 0.0) -> tuple[Array, AffineCtx]:
    """Return y = slope * x + intercept, with two fixed numbers.

    The book's `Affine` layer, with weights, is `linear_forward`.

    Parameters
    ----------
    x : array of any shape, float
    slope : float, default 1
    intercept : float, default 0

    Returns
    -------
    y : array, shape and type of `x`
    ctx : AffineCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import affine_forward
    >>> affine_forward(np.array([-1.0, 2.0]), slope=3.0, intercept=1.0)[0]
    array([-2.,  7.])
    """
    xp = check_arrays("affine", x=x)
    y = elementwise(xp, lambda a: a * float(slope) + float(intercept), x)
    return y, AffineCtx(tuple(x.shape), float(slope))


def affine_backward(dy: Array, ctx: AffineCtx) -> Array:
    """Return dx = slope * dy.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : AffineCtx

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
    >>> from xpnet.functional import affine_backward, affine_forward
    >>> y, ctx = affine_forward(np.array([-1.0, 2.0]), slope=3.0)
    >>> affine_backward(np.array([1.0, 2.0]), ctx)
    array([3., 6.])
    """
    xp = check_gradient("affine_backward", dy, dy, ctx.shape)
    return elementwise(xp, lambda d: d * ctx.slope, dy)
