"""Depthwise convolution for CuPy: by cuDNN where it is used, else one launch each for y and dx, two at most for dW."""

from __future__ import annotations

import math

import cupy

from xpnet.backend import Array
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy import cudnn
from xpnet.kernels.cupy.bias import bias_gradient, with_bias
from xpnet.kernels.cupy.launch import innermost, launch, launch_sums, window_argument
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = [
    "depthwise_conv2d_backward",
    "depthwise_conv2d_forward",
    "depthwise_conv2d_input_gradient",
    "depthwise_conv2d_relu_forward",
]


@register("cupy", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (m*C, 1, KH, KW), groups = C: (N, m*C, OH, OW)."""
    return with_bias(_forward(innermost(x), W, window, groups), b, False)


@register("cupy", "depthwise_conv2d_relu_forward")
def depthwise_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return the relu of what `depthwise_conv2d_forward` returns."""
    return with_bias(_forward(innermost(x), W, window, groups), b, True)


def _forward(x: Array, W: Array, window: Window, groups: int) -> Array:
    """Return the convolution (m*C, OH, OW, N) of x (C, H, W, N)."""
    y = cudnn.forward(x, W, window)
    if y is None:
        y = cupy.empty((W.shape[0], *window.output, x.shape[3]), dtype=x.dtype)
        _each("depthwise_forward", x, W, y, window, groups)
    return y


def _each(name: str, given: Array, W: Array, made: Array, window: Window, groups: int) -> None:
    """Launch a kernel with a thread for each element of what is made, (C or m*C, ..., N) as what is given."""
    like = given if given.size > made.size else made
    arguments = (given, cupy.ascontiguousarray(W), made, window_argument(window), W.shape[0] // groups)
    launch("depthwise", name, like, made.size, *arguments, made.shape[3], made.size)


@register("cupy", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, m*C, OH, OW)."""
    return batch_first(cupy, _input_gradient(innermost(dy), W, window, groups))


def _input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (C, H, W, N) of dy (m*C, OH, OW, N)."""
    dx = cudnn.input_gradient(dy, W, window, groups)
    if dx is None:
        dx = cupy.empty((groups, *window.input, dy.shape[3]), dtype=dy.dtype)
        _each("depthwise_input_gradient", dy, W, dx, window, groups)
    return dx


@register("cupy", "depthwise_conv2d_backward")
def depthwise_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    gradient, image = innermost(dy), innermost(x)
    dW = cudnn.weight_gradient(gradient, image, tuple(W.shape), window)
    if dW is None:
        dW = _weight_gradient(gradient, image, tuple(W.shape), window)
    dx = batch_first(cupy, _input_gradient(gradient, W, window, groups)) if need_dx else None
    return dx, dW, bias_gradient(gradient) if need_db else None


def _weight_gradient(dy: Array, x: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return dW of the shape (m*C, 1, KH, KW) of dy (m*C, OH, OW, N) and x (C, H, W, N)."""
    dW = cupy.empty(shape, dtype=dy.dtype)
    after = (window_argument(window), shape[0] // x.shape[0], x.shape[3])
    length = math.prod(dy.shape[1:])
    launch_sums("depthwise", "depthwise_weight_gradient", dW, length, (dy, x), after, is_wide(max(x.size, dy.size)))
    return dW
