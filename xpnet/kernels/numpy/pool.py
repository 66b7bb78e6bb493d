"""Pooling for NumPy, some channels at a time, so that all passes over them but the first find them in cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from xpnet.backend import Array
from xpnet.cores import threads_allowed
from xpnet.kernels.agnostic import pool
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, parts_worth, run_all, threads_beside_blas

__all__ = ["by_channels", "pool2d_backward", "pool2d_forward"]

BLOCK = 1 << 18  # bytes of one array in a block: several of them fit the second-level cache of a common CPU


def by_channels(work: Callable[[slice], object], x: np.ndarray, *, products: bool = False) -> None:
    """Call `work` for slices of the first axis of `x`, shared out among the team.

    The part of `x` in a slice has `BLOCK` bytes or less, or is one channel.
    """
    step = max(1, BLOCK * x.shape[0] // x.nbytes)
    parts = [slice(start, min(start + step, x.shape[0])) for start in range(0, x.shape[0], step)]

    def run(some: slice) -> None:
        for part in parts[some]:
            work(part)

    threads = threads_beside_blas() if products else threads_allowed()
    run_all([functools.partial(run, some) for some in cut(len(parts), parts_worth(threads, len(parts), x.size))],
            products=products)  # fmt: skip


@register("numpy", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """Pool x (N, C, H, W) to (N, C, OH, OW), `mode` "max" or "average"; nothing is noted for backward."""
    inner = batch_innermost(np, x)
    taps = list(window.taps())
    whole = [t for t in taps if (t.out_rows, t.out_columns) == (slice(0, window.output[0]), slice(0, window.output[1]))]
    if mode != "max" or not whole or x.dtype.char not in "fd":
        return pool.pool2d_forward(x, window, mode, count_include_pad)
    y = np.empty((inner.shape[0], *window.output, inner.shape[3]), dtype=x.dtype)

    def find_maxima(channels: slice) -> None:
        image, block = inner[channels], y[channels]
        np.copyto(block, image[:, whole[0].in_rows, whole[0].in_columns])
        for tap in taps:
            if tap is not whole[0]:
                part = block[:, tap.out_rows, tap.out_columns]
                np.maximum(part, image[:, tap.in_rows, tap.in_columns], out=part)

    by_channels(find_maxima, inner)
    return batch_first(np, y), None


@register("numpy", "pool2d_backward")
def pool2d_backward(
    dy: Array, x: Array | None, y: Array, places: Array | None, window: Window, mode: str, count_include_pad: bool
) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    if not window.is_apart or window.padding != ((0, 0), (0, 0)) or window.overhangs or dy.dtype.char not in "fd":
        return pool.pool2d_backward(dy, x, y, places, window, mode, count_include_pad)
    gradient = batch_innermost(np, dy)
    C, N = gradient.shape[0], gradient.shape[3]
    dx = np.empty((C, *window.input, N), dtype=dy.dtype)
    _clear_rest(dx, window)
    if mode == "average":
        weights = pool.average_weights(np, window, count_include_pad, dy)

        def share_out(channels: slice) -> None:
            share = gradient[channels] * weights
            for tap in window.taps():
                dx[channels, tap.in_rows, tap.in_columns] = share

        by_channels(share_out, gradient)
        return batch_first(np, dx)

    image, top = batch_innermost(np, x), batch_innermost(np, y)
    *others, last = window.taps()

    def give_to_first(channels: slice) -> None:
        given, best = gradient[channels], top[channels]
        free = best == best  # no maximum found yet; with a NaN in the window there is none
        is_first = np.empty_like(free)
        for tap in others:
            np.equal(image[channels, tap.in_rows, tap.in_columns], best, out=is_first)
            is_first &= free
            free ^= is_first
            np.multiply(given, is_first, out=dx[channels, tap.in_rows, tap.in_columns])
        np.multiply(given, free, out=dx[channels, last.in_rows, last.in_columns])  # the maximum, if no other was

    by_channels(give_to_first, gradient)
    return batch_first(np, dx)


def _clear_rest(dx: np.ndarray, window: Window) -> None:
    """Set what no window reads to zero: all of it where windows leave gaps, else rows and columns at the end."""
    if window.kernel != window.stride or window.dilation != (1, 1):
        dx[...] = 0.0
        return
    (OH, OW), (KH, KW) = window.output, window.kernel
    dx[:, OH * KH :] = 0.0
    dx[:, : OH * KH, OW * KW :] = 0.0
