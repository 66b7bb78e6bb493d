"""The dense product and flattening."""

from __future__ import annotations

import math
from typing import NamedTuple

from xpnet.backend import Array, wide_dtype
from xpnet.errors import ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_ndim, is_relu
from xpnet.kernels import find

__all__ = [
    "FlattenCtx",
    "LinearCtx",
    "flatten_backward",
    "flatten_forward",
    "linear_backward",
    "linear_forward",
]


class LinearCtx(NamedTuple):
    """Kept for backward: the input, the weights and, with relu, the output themselves, nothing new."""

    x: Array  # (N, I)
    W: Array  # (I, O)
    has_bias: bool
    y: Array | None = None  # (N, O); only with relu


def linear_forward(
    x: Array, W: Array, b: Array | None = None, *, activation: str | None = None
) -> tuple[Array, LinearCtx]:
    """Return y = x @ W + b, or the relu of it.

    Parameters
    ----------
    x : array (N, I), float
    W : array (I, O), the type of `x`
    b : array (O,), optional
    activation : {None, "relu"}, default None

    Returns
    -------
    y : array (N, O), the type of `x`
    ctx : LinearCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit or the batch is empty.
    ArgumentError
        If the activation is another.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 5.6 (there `Affine`).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import linear_forward
    >>> y, ctx = linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [10.0]]), np.array([0.5]))
    >>> y
    array([[21.5]])
    """
    xp = check_arrays("linear", x=x, W=W, b=b)
    check_ndim("linear", "x", x, 2, "(N, I)")
    check_ndim("linear", "W", W, 2, "(I, O)")
    if x.shape[1] != W.shape[0]:
        raise ShapeError(
            "linear",
            f"x has {x.shape[1]} features but W expects {W.shape[0]} "
            f"(x.shape={tuple(x.shape)}, W.shape={tuple(W.shape)})",
        )
    if b is not None and tuple(b.shape) != (W.shape[1],):
        raise ShapeError("linear", f"b must have shape (O,) = ({W.shape[1]},), got {tuple(b.shape)}")
    rectified = is_relu("linear", activation)
    y = find("linear_relu_forward" if rectified else "linear_forward", xp)(x, W, b)
    return y, LinearCtx(x, W, b is not None, y if rectified else None)


def linear_backward(dy: Array, ctx: LinearCtx, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """Return dx = dy @ W^T, dW = x^T @ dy, db = sum of dy over the batch.

    Parameters
    ----------
    dy : array (N, O)
        Not changed.
    ctx : LinearCtx
    need_dx : bool, default True
        False leaves dx out.

    Returns
    -------
    dx : array (N, I), or None
        In memory as the layer before a Flatten wants it: on most libraries the batch is the innermost axis.
    dW : array (I, O)
    db : array (O,), or None if there was no bias

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import linear_backward, linear_forward
    >>> y, ctx = linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [10.0]]))
    >>> linear_backward(np.array([[1.0]]), ctx)
    (array([[ 1., 10.]]), array([[1.],
           [2.]]), None)
    """
    xp = check_gradient("linear_backward", dy, ctx.x, (ctx.x.shape[0], ctx.W.shape[1]))
    db = None
    if ctx.y is not None:
        dy, db = find("relu_bias_backward", xp)(dy, ctx.y, ctx.has_bias, False)
    dx = find("linear_input_gradient", xp)(dy, ctx.W) if need_dx else None
    if ctx.has_bias and db is None:
        db = xp.astype(xp.sum(dy, axis=0, dtype=wide_dtype(xp, dy.dtype)), dy.dtype, copy=False)
    return dx, find("linear_weight_gradient", xp)(dy, ctx.x), db


class FlattenCtx(NamedTuple):
    """Kept for backward: a shape, no array."""

    shape: tuple[int, ...]


def flatten_forward(x: Array) -> tuple[Array, FlattenCtx]:
    """Return `x` (N, ...) as (N, features); a view where the memory order allows.

    Parameters
    ----------
    x : array (N, ...), float

    Returns
    -------
    y : array (N, product of the other axes), the type of `x`
    ctx : FlattenCtx

    Raises
    ------
    ShapeError
        If `x` has less than two axes or is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import flatten_forward
    >>> flatten_forward(np.ones((2, 3, 4, 4)))[0].shape
    (2, 48)
    """
    xp = check_arrays("flatten", x=x)
    shape = tuple(x.shape)
    if len(shape) < 2 or 0 in shape:
        raise ShapeError("flatten", f"x must have at least 2 axes (N, ...), none empty, got shape {shape}")
    return xp.reshape(x, (shape[0], math.prod(shape[1:]))), FlattenCtx(shape)


def flatten_backward(dy: Array, ctx: FlattenCtx) -> Array:
    """Return dy (N, features) in the shape of the input.

    Parameters
    ----------
    dy : array (N, features)
    ctx : FlattenCtx

    Returns
    -------
    dx : array (N, ...)

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import flatten_backward, flatten_forward
    >>> y, ctx = flatten_forward(np.ones((2, 3, 4, 4)))
    >>> flatten_backward(y, ctx).shape
    (2, 3, 4, 4)
    """
    xp = check_gradient("flatten_backward", dy, dy, (ctx.shape[0], math.prod(ctx.shape[1:])))
    return xp.reshape(dy, ctx.shape)
