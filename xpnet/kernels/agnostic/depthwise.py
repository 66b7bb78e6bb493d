"""Depthwise convolution, tap by tap: one multiply-add of slices for each element of the kernel, no columns.

Each channel is seen by its own `m` filters alone (W is (m*C, 1, KH, KW)), so a matrix product has nothing to
share. Blocks of channels (of rows, where a channel is large) keep the temporaries in cache. Where a library's
products of a row and a matrix are faster than that, its module says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpnet.backend import Array, array_namespace, device_of, finfo, wide_dtype
from xpnet.kernels.agnostic.conv import block_budget
from xpnet.kernels.geometry import Tap, Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import find, register

__all__ = [
    "depthwise_conv2d_backward",
    "depthwise_conv2d_forward",
    "depthwise_conv2d_input_gradient",
    "row_dots",
]


@register("agnostic", "row_dots")
def row_dots(a: Array, b: Array) -> Array:
    """Sum a * b over all axes but the first, in at least float32."""
    xp = array_namespace(a)
    wide = wide_dtype(xp, a.dtype)
    a, b = xp.astype(a, wide, copy=False), xp.astype(b, wide, copy=False)
    return xp.sum(a * b, axis=tuple(range(1, len(a.shape))), dtype=wide)


def _blocks(xp: Any, window: Window, channels: int, like: Array) -> Iterator[tuple[slice, list[Tap], slice]]:
    """Yield (channels, taps, output rows) of blocks whose output is an eighth of a block's budget or less."""
    OH, OW = window.output
    row = OW * like.shape[3] * (finfo(xp, wide_dtype(xp, like.dtype)).bits // 8)
    budget = max(1, block_budget() // 8 // row)  # in rows of one channel
    step = max(1, budget // OH)
    height = min(OH, budget)
    for r in range(0, OH, height):
        rows = slice(r, min(r + height, OH))
        taps = [t for t in window.taps(rows) if t.out_rows.stop > t.out_rows.start]
        taps = [t for t in taps if t.out_columns.stop > t.out_columns.start]
        for c in range(0, channels, step):
            yield slice(c, min(c + step, channels)), taps, rows


def _weights(xp: Any, W: Array, channels: int) -> list[Array]:
    """Return W (m*C, 1, KH, KW) as m arrays (KH, KW, C, 1, 1, 1) in at least float32."""
    m, (KH, KW) = W.shape[0] // channels, W.shape[2:]
    wide = xp.astype(W, wide_dtype(xp, W.dtype), copy=False)
    by_tap = xp.permute_dims(xp.reshape(wide, (channels, m, KH, KW)), (1, 2, 3, 0))
    by_tap = xp.reshape(by_tap, (m, KH, KW, channels, 1, 1, 1))
    return [by_tap[k, ...] for k in range(m)]


@register("agnostic", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (m*C, 1, KH, KW), groups = C: (N, m*C, OH, OW)."""
    xp = array_namespace(x)
    inner = batch_innermost(xp, x)
    C, N, m = groups, x.shape[0], W.shape[0] // groups
    y = xp.empty((C, m, *window.output, N), dtype=x.dtype, device=device_of(x))
    weights, wide = _weights(xp, W, C), wide_dtype(xp, x.dtype)
    bias = None if b is None else xp.reshape(b, (C, m, 1, 1, 1))
    for channels, taps, rows in _blocks(xp, window, C, inner):
        piece = inner[channels, ...]
        for k in range(m):
            made = y[channels, k, rows, ...]
            block = made if wide == x.dtype else xp.empty(tuple(made.shape), dtype=wide, device=device_of(x))
            block[...] = 0.0 if bias is None else xp.astype(bias[channels, k, ...], wide, copy=False)
            for t in taps:
                seen = xp.astype(piece[:, t.in_rows, t.in_columns, :], wide, copy=False)
                block[:, t.out_rows, t.out_columns, :] += seen * weights[k][t.i, t.j, channels, ...]
            if block is not made:
                made[...] = xp.astype(block, x.dtype)
    return batch_first(xp, xp.reshape(y, (C * m, *window.output, N)))


@register("agnostic", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, m*C, OH, OW): each tap adds what it read from back to its place."""
    xp = array_namespace(dy)
    C, N, m = groups, dy.shape[0], W.shape[0] // groups
    dy5 = xp.reshape(batch_innermost(xp, dy), (C, m, *window.output, N))
    weights, wide = _weights(xp, W, C), wide_dtype(xp, dy.dtype)
    dx = xp.zeros((C, *window.input, N), dtype=wide, device=device_of(dy))
    for channels, taps, rows in _blocks(xp, window, C, dx):
        target = dx[channels, ...]
        for k in range(m):
            piece = dy5[channels, k, rows, ...]
            for t in taps:
                part = xp.astype(piece[:, t.out_rows, t.out_columns, :], wide, copy=False)
                target[:, t.in_rows, t.in_columns, :] += part * weights[k][t.i, t.j, channels, ...]
    return batch_first(xp, xp.astype(dx, dy.dtype, copy=False))


@register("agnostic", "depthwise_conv2d_backward")
def depthwise_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    xp = array_namespace(dy)
    C, N, m, (KH, KW) = groups, x.shape[0], W.shape[0] // groups, window.kernel
    inner, flat = batch_innermost(xp, x), batch_innermost(xp, dy)
    wide = wide_dtype(xp, dy.dtype)
    db = xp.astype(xp.sum(flat, axis=(1, 2, 3), dtype=wide), dy.dtype, copy=False) if need_db else None
    dy5 = xp.reshape(flat, (C, m, *window.output, N))
    dW = xp.zeros((m, KH, KW, C), dtype=wide, device=device_of(dy))
    dots = find("row_dots", xp)
    for channels, taps, rows in _blocks(xp, window, C, inner):
        for t in taps:
            seen = inner[channels, t.in_rows, t.in_columns, :]
            for k in range(m):
                dW[k, t.i, t.j, channels] += dots(seen, dy5[channels, k, rows, ...][:, t.out_rows, t.out_columns, :])
    dW = xp.reshape(xp.permute_dims(dW, (3, 0, 1, 2)), tuple(W.shape))
    dx = find("depthwise_conv2d_input_gradient", xp)(dy, W, window, groups) if need_dx else None
    return dx, xp.astype(dW, dy.dtype, copy=False), db
