"""A bias with the relu after it, and the gradients of both, for CuPy: the dense product's, and the convolution's."""

from __future__ import annotations

import math

import cupy

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import relu
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.activation import relu_backward
from xpnet.kernels.cupy.launch import innermost, launch, launch_sums
from xpnet.kernels.cupy.matmul import matmul
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = [
    "add_bias",
    "bias_gradient",
    "linear_forward",
    "linear_relu_forward",
    "relu_bias_backward",
    "with_bias",
]


def add_bias(y: Array, b: Array | None, length: int, rectify: bool) -> Array:
    """Add b (F,) to the contiguous array `y`, whose channel changes every `length` elements, in place; then relu."""
    if b is not None:
        b = cupy.ascontiguousarray(b)
        launch("activation", "add_bias", y, y.size, y, b, length, b.size, y.size, rectify)
    elif rectify:
        launch("activation", "relu", y, y.size, y, y, y.size)
    return y


def with_bias(y: Array, b: Array | None, rectify: bool) -> Array:
    """Finish the images y (F, OH, OW, N), which are ours, in one launch; return them indexed (N, F, OH, OW)."""
    return batch_first(cupy, add_bias(y, b, math.prod(y.shape[1:]), rectify))


def bias_gradient(dy: Array) -> Array:
    """Return the sum of dy (F, OH, OW, N) over all axes but the first."""
    wide = wide_dtype(cupy, dy.dtype)
    return dy.reshape(dy.shape[0], -1).sum(axis=1, dtype=wide).astype(dy.dtype, copy=False)


@register("cupy", "linear_forward")
def linear_forward(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W + b of x (N, I), W (I, O)."""
    return add_bias(matmul(x, W), b, 1, False)


@register("cupy", "linear_relu_forward")
def linear_relu_forward(x: Array, W: Array, b: Array | None) -> Array:
    """relu(x @ W + b) of x (N, I), W (I, O): a product and one launch."""
    return add_bias(matmul(x, W), b, 1, True)


@register("cupy", "relu_bias_backward")
def relu_bias_backward(dy: Array, y: Array, need_db: bool, overwrite: bool) -> tuple[Array, Array | None]:
    """Return dx = dy where y > 0, else 0, and if needed its sum over all axes but the second: that of a bias.

    With `overwrite`, dx of images is where dy is.
    """
    if not need_db:
        return relu_backward(dy, y, overwrite), None
    if y.ndim == 4:
        gradient, output = innermost(dy), innermost(y)
        channels, length = output.shape[0], math.prod(output.shape[1:])
        dy_strides = strides = (length, 1)
    elif y.ndim == 2:
        output = cupy.ascontiguousarray(y)
        length, channels = output.shape
        # a dense layer after this one gives its gradient transposed: no reason to copy it
        gradient = dy.T if dy.flags.f_contiguous else cupy.ascontiguousarray(dy)
        dy_strides = (length, 1) if dy.flags.f_contiguous else (1, channels)
        strides = (1, channels)
    else:
        return relu.relu_bias_backward(dy, y, need_db, overwrite)
    dx = gradient if overwrite and y.ndim == 4 else cupy.empty_like(output)
    db = cupy.empty((channels,), dy.dtype)
    before = (gradient, *dy_strides, output, dx, *strides)
    launch_sums("activation", "relu_bias_gradient", db, length, before, (length,), is_wide(dx.size))
    return batch_first(cupy, dx) if y.ndim == 4 else dx, db
