"""Depthwise convolution by compiled loops: one pass over what is read and what is written."""

from __future__ import annotations

import math

import numpy as np

from xpnet.backend import Array
from xpnet.kernels import agnostic
from xpnet.kernels.compiled import loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.compiled.runs import are_long, geometry_of, readers, reads, run
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import depthwise
from xpnet.kernels.numpy.product import row_sums
from xpnet.kernels.table import register

__all__ = [
    "depthwise_conv2d_backward",
    "depthwise_conv2d_forward",
    "depthwise_conv2d_input_gradient",
    "depthwise_conv2d_relu_forward",
]


def _usable(kernel: str, like: np.ndarray, W: np.ndarray, window: Window) -> bool:
    work = W.size * math.prod(window.output) * len(like)
    return work >= loader.SMALL and are_long(window, like) and loader.usable("_depthwise_loops", kernel, like.dtype)


@register("compiled", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (m*C, 1, KH, KW), groups = C: (N, m*C, OH, OW)."""
    if not _usable("convolve", x, W, window):
        return depthwise.depthwise_conv2d_forward(x, W, b, window, groups)
    return _convolve(x, W, b, window, groups, -np.inf)


@register("compiled", "depthwise_conv2d_relu_forward")
def depthwise_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, m*C, OH, OW)."""
    if not _usable("convolve", x, W, window):
        return agnostic.relu.depthwise_conv2d_relu_forward(x, W, b, window, groups)
    return _convolve(x, W, b, window, groups, 0.0)


def _convolve(x: Array, W: Array, b: Array | None, window: Window, groups: int, least: float) -> Array:
    F, N = len(W), len(x)
    y = np.empty((F, *window.output, N), dtype=x.dtype)
    bias = np.zeros(F, x.dtype) if b is None else flat(b)
    arrays = (flat(batch_innermost(np, x)), flat(W), bias, y.reshape(-1))
    given = (x.dtype.type(least), reads(window, N), geometry_of(window, groups, F, N))
    run("_depthwise_loops", "convolve", arrays, given, F, math.prod(window.kernel))
    return batch_first(np, y)


@register("compiled", "depthwise_conv2d_backward")
def depthwise_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    if not _usable("weight_gradient", x, W, window):
        return agnostic.depthwise.depthwise_conv2d_backward(dy, x, W, window, groups, need_dx, need_db)
    F, N, inner = len(W), len(x), batch_innermost(np, dy)
    dW = np.zeros(W.shape, dtype=W.dtype)
    arrays = (flat(batch_innermost(np, x)), flat(inner), dW.reshape(-1))
    run("_depthwise_loops", "weight_gradient", arrays, (reads(window, N), geometry_of(window, groups, F, N)), F)
    dx = depthwise_conv2d_input_gradient(batch_first(np, inner), W, window, groups) if need_dx else None
    return dx, dW, row_sums(inner) if need_db else None


@register("compiled", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, m*C, OH, OW): each pixel gathers from the outputs that read it."""
    if not _usable("input_gradient", dy, W, window):
        return depthwise.depthwise_conv2d_input_gradient(dy, W, window, groups)
    F, N = len(W), len(dy)
    dx = np.empty((groups, *window.input, N), dtype=dy.dtype)
    arrays = (flat(batch_innermost(np, dy)), flat(W), dx.reshape(-1))
    given = (*readers(window, F // groups, N), geometry_of(window, groups, F, N))
    run("_depthwise_loops", "input_gradient", arrays, given, groups, F // groups * math.prod(window.kernel))
    return batch_first(np, dx)
