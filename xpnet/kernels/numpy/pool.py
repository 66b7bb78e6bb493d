"""Pooling for NumPy, some channels at a time, so that all passes over them but the first find them in cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import pool
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import register

__all__ = ["channel_blocks", "pool2d_backward", "pool2d_forward"]

BLOCK = 1 << 18  # bytes of one array in a block: several of them fit the second-level cache of a common CPU


def channel_blocks(x: np.ndarray) -> Iterator[slice]:
    """Yield slices of the first axis of `x` whose part of it is `BLOCK` bytes or less, or one channel."""
    step = max(1, BLOCK * x.shape[0] // x.nbytes)
    for start in range(0, x.shape[0], step):
        yield slice(start, min(start + step, x.shape[0]))


@register("numpy", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> Array:
    """Pool x (N, C, H, W) to (N, C, OH, OW); `mode` is "max" or "average"."""
    inner = batch_innermost(np, x)
    taps = list(window.taps())
    whole = [t for t in taps if (t.out_rows, t.out_columns) == (slice(0, window.output[0]), slice(0, window.output[1]))]
    if mode != "max" or not whole or x.dtype.char not in "fd":
        return pool.pool2d_forward(x, window, mode, count_include_pad)
    y = np.empty((inner.shape[0], *window.output, inner.shape[3]), dtype=x.dtype)
    for channels in channel_blocks(inner):
        image, block = inner[channels], y[channels]
        np.copyto(block, image[:, whole[0].in_rows, whole[0].in_columns])
        for tap in taps:
            if tap is not whole[0]:
                part = block[:, tap.out_rows, tap.out_columns]
                np.maximum(part, image[:, tap.in_rows, tap.in_columns], out=part)
    return batch_first(np, y)


@register("numpy", "pool2d_backward")
def pool2d_backward(dy: Array, x: Array | None, y: Array, window: Window, mode: str, count_include_pad: bool) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    if not _tiles(window) or dy.dtype.char not in "fd":
        return pool.pool2d_backward(dy, x, y, window, mode, count_include_pad)
    gradient = batch_innermost(np, dy)
    C, N = gradient.shape[0], gradient.shape[3]
    dx = np.empty((C, *window.input, N), dtype=dy.dtype)
    _clear_rest(dx, window)
    if mode == "average":
        weights = pool.average_weights(np, window, count_include_pad, dy)
        for channels in channel_blocks(gradient):
            share = gradient[channels] * weights
            for tap in window.taps():
                dx[channels, tap.in_rows, tap.in_columns] = share
        return batch_first(np, dx)

    image, top = batch_innermost(np, x), batch_innermost(np, y)
    *others, last = window.taps()
    for channels in channel_blocks(gradient):
        left = np.array(gradient[channels])  # what has not gone to a first maximum yet
        share = np.empty_like(left)
        for tap in others:
            np.equal(image[channels, tap.in_rows, tap.in_columns], top[channels], out=share)
            share *= left
            left -= share
            dx[channels, tap.in_rows, tap.in_columns] = share
        dx[channels, last.in_rows, last.in_columns] = left
    return batch_first(np, dx)


def _tiles(window: Window) -> bool:
    """Whether every tap of every window reads a pixel of its own: no overlap, no padding."""
    apart = all(s >= d * (k - 1) + 1 for s, k, d in zip(window.stride, window.kernel, window.dilation, strict=True))
    return apart and window.padding == ((0, 0), (0, 0)) and not window.overhangs


def _clear_rest(dx: np.ndarray, window: Window) -> None:
    """Set what no window reads to zero: all of it where windows leave gaps, else rows and columns at the end."""
    if window.kernel != window.stride or window.dilation != (1, 1):
        dx[...] = 0.0
        return
    (OH, OW), (KH, KW) = window.output, window.kernel
    dx[:, OH * KH :] = 0.0
    dx[:, : OH * KH, OW * KW :] = 0.0
