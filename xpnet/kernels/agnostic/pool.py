"""Pooling by comparing or adding the slices that the taps of the window see, batch-innermost.

Taps are worked through in a fixed order and no two threads add to one pixel, so results and gradients are
the same in every run, overlapping windows included. Sums run in at least float32: of more than a few terms 16 bits
lose some, or overflow.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace, device_of, sign, wide_dtype
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import find, register

__all__ = [
    "average_weights",
    "lp_pool2d_backward",
    "lp_pool2d_forward",
    "pool2d_backward",
    "pool2d_forward",
    "pool2d_inference",
]


@register("agnostic", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """Pool x (N, C, H, W) to (N, C, OH, OW); `mode` is "max" or "average".

    Returns y and what a library's kernel notes for backward: here nothing, None.
    """
    xp = array_namespace(x)
    inner = batch_innermost(xp, x)
    C, _, _, N = inner.shape
    start = -float("inf") if mode == "max" else 0.0
    dtype = x.dtype if mode == "max" else wide_dtype(xp, x.dtype)  # maxima are exact
    y: Any = None
    for tap in window.taps():
        piece = xp.astype(inner[:, tap.in_rows, tap.in_columns, :], dtype, copy=False)
        r, c = tap.out_rows, tap.out_columns
        if y is None and (r.stop - r.start, c.stop - c.start) == window.output:
            y = xp.asarray(piece, copy=True)
            continue
        if y is None:
            y = xp.full((C, *window.output, N), start, dtype=dtype, device=device_of(x))
        if mode == "max":
            y[:, r, c, :] = xp.maximum(y[:, r, c, :], piece)
        else:
            y[:, r, c, :] += piece
    if mode == "average":
        y *= average_weights(xp, window, count_include_pad, y)
    return batch_first(xp, xp.astype(y, x.dtype, copy=False)), None


@register("agnostic", "pool2d_inference")
def pool2d_inference(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """As `pool2d_forward`, but without a note of where the maxima are; backward can do without."""
    return find("pool2d_forward", array_namespace(x))(x, window, mode, count_include_pad)[0], None


@register("agnostic", "pool2d_backward")
def pool2d_backward(
    dy: Array, x: Array | None, y: Array, places: Array | None, window: Window, mode: str, count_include_pad: bool
) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    xp = array_namespace(dy)
    dy_inner = xp.astype(batch_innermost(xp, dy), wide_dtype(xp, dy.dtype), copy=False)
    dx = xp.zeros((dy_inner.shape[0], *window.input, dy_inner.shape[3]), dtype=dy_inner.dtype, device=device_of(dy))
    if mode == "average":
        share = dy_inner * average_weights(xp, window, count_include_pad, dy_inner)
        for tap in window.taps():
            dx[:, tap.in_rows, tap.in_columns, :] += share[:, tap.out_rows, tap.out_columns, :]
        return batch_first(xp, xp.astype(dx, dy.dtype, copy=False))

    x_inner, y_inner = batch_innermost(xp, x), batch_innermost(xp, y)
    free = xp.full(tuple(y_inner.shape), True, dtype=xp.bool, device=device_of(dy))  # no maximum found yet
    for tap in window.taps():
        r, c = tap.out_rows, tap.out_columns
        is_first = x_inner[:, tap.in_rows, tap.in_columns, :] == y_inner[:, r, c, :]
        is_first &= free[:, r, c, :]
        free[:, r, c, :] ^= is_first
        dx[:, tap.in_rows, tap.in_columns, :] += dy_inner[:, r, c, :] * xp.astype(is_first, dx.dtype)
    return batch_first(xp, xp.astype(dx, dy.dtype, copy=False))


def average_weights(xp: Any, window: Window, count_include_pad: bool, like: Array) -> Array | float:
    """One over the number of pixels averaged: a number, or (1, OH, OW, 1) where windows overhang."""
    KH, KW = window.kernel
    if not window.overhangs and (count_include_pad or window.padding == ((0, 0), (0, 0))):
        return 1.0 / (KH * KW)
    counted = window.padded() if count_include_pad else window  # what lies beyond the padding never counts
    rows, columns = counted.tap_counts(0), counted.tap_counts(1)
    table = [[1.0 / (r * c) for c in columns] for r in rows]
    return xp.reshape(xp.asarray(table, dtype=like.dtype, device=device_of(like)), (1, *window.output, 1))


@register("agnostic", "lp_pool2d_forward")
def lp_pool2d_forward(x: Array, window: Window, p: float) -> Array:
    """Pool x (N, C, H, W) to m (sum |x/m|^p)^(1/p) with m the largest |x| of the window, so nothing overflows."""
    xp = array_namespace(x)
    size = xp.abs(xp.astype(batch_innermost(xp, x), wide_dtype(xp, x.dtype), copy=False))
    top = batch_innermost(xp, pool2d_forward(batch_first(xp, size), window, "max", True)[0])
    # a window of zeros (or of padding alone) is divided by 1; so is an infinite one, which stays infinite
    scale = xp.where((top > 0.0) & xp.isfinite(top), top, xp.ones_like(top))
    y = xp.zeros_like(scale)
    for tap in window.taps():
        r, c = tap.out_rows, tap.out_columns
        y[:, r, c, :] += power(size[:, tap.in_rows, tap.in_columns, :] / scale[:, r, c, :], p)
    return batch_first(xp, xp.astype(scale * root(xp, y, p), x.dtype, copy=False))


@register("agnostic", "lp_pool2d_backward")
def lp_pool2d_backward(dy: Array, x: Array, y: Array, window: Window, p: float) -> Array:
    """Return dx = dy sign(x) (|x|/y)^(p-1): a ratio of at most 1, and 0 where the window is all zero."""
    xp = array_namespace(dy)
    wide = wide_dtype(xp, dy.dtype)
    dy_inner, x_inner, y_inner = (xp.astype(batch_innermost(xp, a), wide, copy=False) for a in (dy, x, y))
    scale = xp.where(y_inner > 0.0, y_inner, xp.ones_like(y_inner))
    dx = xp.zeros_like(x_inner)
    for tap in window.taps():
        r, c = tap.out_rows, tap.out_columns
        seen = x_inner[:, tap.in_rows, tap.in_columns, :]
        part = lp_slope(xp, seen, scale[:, r, c, :], p)
        dx[:, tap.in_rows, tap.in_columns, :] += dy_inner[:, r, c, :] * part
    return batch_first(xp, xp.astype(dx, dy.dtype, copy=False))


def power(a: Array, p: float) -> Array:
    """a^p of what is not negative, without a general power where products do."""
    return a if p == 1.0 else a * a if p == 2.0 else a**p


def root(xp: Any, a: Array, p: float) -> Array:
    """a^(1/p) of what is not negative."""
    return a if p == 1.0 else xp.sqrt(a) if p == 2.0 else a ** (1.0 / p)


def lp_slope(xp: Any, x: Array, y: Array, p: float) -> Array:
    """d y / d x = sign(x) (|x|/y)^(p-1) of y = (sum |x|^p)^(1/p), where y is not zero."""
    if p == 2.0:
        return x / y
    return sign(xp, x) if p == 1.0 else sign(xp, x) * (xp.abs(x) / y) ** (p - 1.0)
