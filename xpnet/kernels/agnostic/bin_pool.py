"""Pooling of bins of any size, batch-innermost: what global and adaptive pooling have in common.

Of OH bins of H rows, bin i has those from floor(i * H / OH) to below ceil((i + 1) * H / OH), and columns alike; they
may overlap. They are worked through in a fixed order, so gradients are the same in every run. Sums run in at least
float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xpnet.backend import Array, array_namespace, device_of, wide_dtype
from xpnet.kernels.agnostic.pool import lp_slope, power, root
from xpnet.kernels.geometry import Pair
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import register

__all__ = ["bin_pool2d_backward", "bin_pool2d_forward"]


def _bins(size: Sequence[int], output: Sequence[int]) -> Iterator[tuple[int, int, slice, slice, int]]:
    """Yield each bin's place in the output, its rows, its columns and how many pixels it has."""
    rows, columns = (
        [slice(i * n // o, -(-(i + 1) * n // o)) for i in range(o)] for n, o in zip(size, output, strict=True)
    )
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            yield i, j, r, c, (r.stop - r.start) * (c.stop - c.start)


@register("agnostic", "bin_pool2d_forward")
def bin_pool2d_forward(x: Array, size: Pair, mode: str, p: float) -> Array:
    """Pool x (N, C, H, W) to bins (N, C, OH, OW), of which `size` is (OH, OW); `mode` is "max", "average" or "lp"."""
    xp = array_namespace(x)
    inner = batch_innermost(xp, x)
    wide = wide_dtype(xp, x.dtype)
    y = xp.empty((inner.shape[0], *size, inner.shape[3]), dtype=x.dtype, device=device_of(x))
    for i, j, r, c, area in _bins(x.shape[2:], size):
        piece = inner[:, r, c, :]
        if mode == "max":
            value = xp.max(piece, axis=(1, 2))
        elif mode == "average":
            value = xp.sum(piece, axis=(1, 2), dtype=wide) / area
        else:
            value = _norm(xp, xp.abs(xp.astype(piece, wide, copy=False)), p)
        y[:, i, j, :] = xp.astype(value, x.dtype, copy=False)
    return batch_first(xp, y)


def _norm(xp: Any, size: Array, p: float) -> Array:
    """m (sum |x/m|^p)^(1/p) over the middle axes, m the maximum: nothing overflows on the way."""
    top = xp.max(size, axis=(1, 2), keepdims=True)
    top = xp.where((top > 0.0) & xp.isfinite(top), top, xp.ones_like(top))
    return top[:, 0, 0, :] * root(xp, xp.sum(power(size / top, p), axis=(1, 2)), p)


@register("agnostic", "bin_pool2d_backward")
def bin_pool2d_backward(dy: Array, x: Array | None, y: Array, shape: tuple[int, ...], mode: str, p: float) -> Array:
    """Return dx of the `shape` (N, C, H, W) of the input; `x` is None with "average"."""
    xp = array_namespace(dy)
    N, C, H, W_ = shape
    wide = wide_dtype(xp, dy.dtype)
    dy_inner = xp.astype(batch_innermost(xp, dy), wide, copy=False)
    dx = xp.zeros((C, H, W_, N), dtype=wide, device=device_of(dy))
    if mode != "average":
        x_inner, y_inner = (xp.astype(batch_innermost(xp, a), wide, copy=False) for a in (x, y))
    for i, j, r, c, area in _bins(shape[2:], y.shape[2:]):
        part = dy_inner[:, i : i + 1, j : j + 1, :]
        if mode == "average":
            share = part / area
        elif mode == "max":
            share = part * _first_maximum(xp, x_inner[:, r, c, :], wide)
        else:
            top = y_inner[:, i : i + 1, j : j + 1, :]
            share = part * lp_slope(xp, x_inner[:, r, c, :], xp.where(top > 0.0, top, xp.ones_like(top)), p)
        dx[:, r, c, :] += share
    return batch_first(xp, xp.astype(dx, dy.dtype, copy=False))


def _first_maximum(xp: Any, piece: Array, dtype: Any) -> Array:
    """1 at the first maximum (in row order) of each channel and sample of `piece` (C, h, w, N), else 0."""
    C, h, w, N = piece.shape
    where = xp.argmax(xp.reshape(piece, (C, h * w, N)), axis=1, keepdims=True)
    numbers = xp.reshape(xp.arange(h * w, dtype=where.dtype, device=device_of(piece)), (1, h * w, 1))
    return xp.reshape(xp.astype(numbers == where, dtype), (C, h, w, N))
