"""Pooling by compiled loops: no passes but the one over what is read and what is written."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic.pool import average_weights
from xpnet.kernels.compiled import depthwise, loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.compiled.runs import are_long, geometry_of, reads, run
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import pool
from xpnet.kernels.table import register
from xpnet.kernels.team import run_ranges

__all__ = ["pool2d_backward", "pool2d_forward"]


@register("compiled", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """Pool x (N, C, H, W) to (N, C, OH, OW); `mode` is "max" or "average"."""
    kernel = f"{mode}_pool" if window.is_halving else "windows"
    if not loader.takes("_pool_loops", kernel, x) or not (window.is_halving or are_long(window, x)):
        return pool.pool2d_forward(x, window, mode, count_include_pad)
    N, C = x.shape[:2]
    if mode == "average" and not window.is_halving:
        return _averages(x, window, count_include_pad), None
    y = np.empty((C, *window.output, N), dtype=x.dtype)
    arrays = (flat(batch_innermost(np, x)), y.reshape(-1))
    if window.is_halving:
        shape = (*window.input, *window.output, N)
        run_ranges(loader.kernel("_pool_loops", kernel, x.dtype), arrays, C, x.size, (shape,))
    else:
        run("_pool_loops", kernel, arrays, (reads(window, N), geometry_of(window, C, C, N)), C)
    return batch_first(np, y), None


@register("compiled", "pool2d_backward")
def pool2d_backward(
    dy: Array, x: Array | None, y: Array, places: Array | None, window: Window, mode: str, count_include_pad: bool
) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    kernel = f"{mode}_pool_gradient" if window.is_halving else "windows_gradient"
    if not loader.takes("_pool_loops", kernel, dy) or not (window.is_halving or are_long(window, dy)):
        return pool.pool2d_backward(dy, x, y, places, window, mode, count_include_pad)
    N, C = dy.shape[:2]
    if mode == "average" and not window.is_halving:
        return _shares(dy, window, count_include_pad)
    dx = np.empty((C, *window.input, N), dtype=dy.dtype)
    read = [dy] if x is None else [dy, x, y]
    arrays = (dx.reshape(-1), *(flat(batch_innermost(np, a)) for a in read))
    if window.is_halving:
        shape = (*window.input, *window.output, N)
        run_ranges(loader.kernel("_pool_loops", kernel, dy.dtype), arrays, C, len(read) * dx.size, (shape,))
    else:
        run("_pool_loops", kernel, arrays, (reads(window, N), geometry_of(window, C, C, N)), C)
    return batch_first(np, dx)


def _averages(x: Array, window: Window, count_include_pad: bool) -> Array:
    """Return the averages of windows: a depthwise convolution."""
    W, counts = _weights(x, window, count_include_pad)
    y = depthwise.depthwise_conv2d_forward(x, W, None, window, x.shape[1])
    if counts is None:
        return y
    inner = batch_innermost(np, y)
    inner *= counts
    return batch_first(np, inner)


def _shares(dy: Array, window: Window, count_include_pad: bool) -> Array:
    """Return the gradient of `_averages`."""
    W, counts = _weights(dy, window, count_include_pad)
    if counts is not None:
        dy = batch_first(np, batch_innermost(np, dy) * counts)
    return depthwise.depthwise_conv2d_input_gradient(dy, W, window, dy.shape[1])


def _weights(like: Array, window: Window, count_include_pad: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weights (C, 1, KH, KW) of an average, and what is left to multiply where pixels count differently."""
    weights = average_weights(np, window, count_include_pad, like)
    ones = np.ones((like.shape[1], 1, *window.kernel), dtype=like.dtype)
    return (ones * like.dtype.type(weights), None) if isinstance(weights, float) else (ones, weights)
