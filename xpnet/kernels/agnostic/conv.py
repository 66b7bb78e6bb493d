"""Convolution as blocks of im2col and one matrix product each, batch-innermost (see kernels/layout.py).

The matrix of columns is never held whole: blocks of output pixels are sized by the byte budget
``XPNET_CONV_WORKSPACE`` so that a block stays in cache, and backward gathers the columns anew.
Padding is never copied in: taps that fall outside the image leave zeros in the columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xpnet import config
from xpnet.backend import Array, array_namespace, device_of, finfo, wide_dtype
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import find, register

__all__ = [
    "block_budget",
    "blocks",
    "conv2d_algorithm",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_input_gradient",
    "gather_columns",
    "matmul_into",
    "mirrored_window",
    "pixel_blocks",
    "scatter_columns",
]

BLOCK = 4 << 20  # bytes of columns, at most, that one thread gathers at a time


@register("agnostic", "matmul_into")
def matmul_into(out: Array, a: Array, b: Array) -> None:
    """Write the matrix product a @ b into the 2-D array `out`."""
    out[...] = a @ b


def gather_columns(col: Array, x: Array, window: Window, rows: slice, columns: slice) -> None:
    """Fill ``col[c, i, j, oh, ow, n]`` with what tap (i, j) of output pixel (oh, ow) reads (im2col).

    `x` is (C, H, W, N), `col` is (C, KH, KW, rows, columns, N) for a block of the output.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    for tap in window.taps(rows, columns):
        r, c = tap.out_rows, tap.out_columns
        target = col[:, tap.i, tap.j, ...]
        if r.start > 0:
            target[:, : r.start, ...] = 0.0
        if r.stop < height:
            target[:, r.stop :, ...] = 0.0
        if c.start > 0:
            target[:, r, : c.start, :] = 0.0
        if c.stop < width:
            target[:, r, c.stop :, :] = 0.0
        target[:, r, c, :] = x[:, tap.in_rows, tap.in_columns, :]


def scatter_columns(x: Array, col: Array, window: Window, rows: slice, columns: slice) -> None:
    """Add each column back to the pixels it was gathered from (col2im); `x` (C, H, W, N) is changed.

    `x` is in at least float32, which the sums of half types need.
    """
    xp = array_namespace(x)
    for tap in window.taps(rows, columns):
        piece = col[:, tap.i, tap.j, tap.out_rows, tap.out_columns, :]
        x[:, tap.in_rows, tap.in_columns, :] += xp.astype(piece, x.dtype, copy=False)


def block_budget() -> int:
    """Return how many bytes one block may take: what the caches hold of it, however many threads there are."""
    return min(config.get("conv_workspace"), BLOCK)


def blocks(window: Window, bytes_per_pixel: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """Cut the output into blocks whose columns fit a budget in bytes: whole rows, or parts of a row."""
    return pixel_blocks(window, max(1, budget // bytes_per_pixel))


def pixel_blocks(window: Window, pixels: int) -> Iterator[tuple[slice, slice]]:
    """Cut the output into blocks of at most so many pixels."""
    OH, OW = window.output
    if pixels >= OW:
        step = -(-OH // -(-OH // (pixels // OW)))  # blocks of about equal height
        for r in range(0, OH, step):
            yield slice(r, min(r + step, OH)), slice(0, OW)
    else:
        for r in range(OH):
            for c in range(0, OW, pixels):
                yield slice(r, r + 1), slice(c, min(c + pixels, OW))


class _Columns:
    """The columns of `x` (C, H, W, N), one block at a time, in memory that is reused from block to block."""

    def __init__(self, xp: Any, x: Array, window: Window, groups: int) -> None:
        self.xp, self.x, self.window, self.groups = xp, x, window, groups
        self.taps = math.prod(window.kernel)
        itemsize = finfo(xp, x.dtype).bits // 8
        self.bytes_per_pixel = x.shape[0] * self.taps * x.shape[3] * itemsize
        self.buffer: Array | None = None

    def blocks(self) -> Iterator[tuple[slice, slice, Array]]:
        """Yield (rows, columns, matrix): matrix (K, L), or (G, K, L) with groups."""
        for rows, columns in blocks(self.window, self.bytes_per_pixel, block_budget()):
            yield rows, columns, self._matrix(rows, columns)

    def _matrix(self, rows: slice, columns: slice) -> Array:
        xp, C, N = self.xp, self.x.shape[0], self.x.shape[3]
        L = (rows.stop - rows.start) * (columns.stop - columns.start) * N
        K = C * self.taps
        if self.window.is_pointwise:
            matrix = xp.reshape(self.x[:, rows, columns, :], (K, L))
        else:
            if self.buffer is None or self.buffer.shape[0] != K * L:
                self.buffer = xp.empty((K * L,), dtype=self.x.dtype, device=device_of(self.x))
            shape = (C, *self.window.kernel, rows.stop - rows.start, columns.stop - columns.start, N)
            gather_columns(xp.reshape(self.buffer, shape), self.x, self.window, rows, columns)
            matrix = xp.reshape(self.buffer, (K, L))
        return matrix if self.groups == 1 else xp.reshape(matrix, (self.groups, K // self.groups, L))


def _is_whole_rows(window: Window, columns: slice) -> bool:
    return columns.stop - columns.start == window.output[1]


def _convolve(xp: Any, x: Array, W: Array, b: Array | None, window: Window) -> Array:
    """Convolve `x` (C, H, W, N) with the matrices `W` (G, F/G, K): (F, OH, OW, N)."""
    G, filters, _ = W.shape
    F, N, (OH, OW) = G * filters, x.shape[3], window.output
    y = xp.empty((F, OH, OW, N), dtype=x.dtype, device=device_of(x))
    flat = xp.reshape(y, (F, OH * OW * N))  # a view: y has just been made
    matmul, matmul_into = find("matmul", xp), find("matmul_into", xp)
    bias = None if b is None else xp.reshape(b, (F, 1))
    for rows, columns, matrix in _Columns(xp, x, window, G).blocks():
        if G == 1 and _is_whole_rows(window, columns):
            block = flat[:, rows.start * OW * N : rows.stop * OW * N]
            matmul_into(block, W[0, ...], matrix)
            if bias is not None:
                block += bias  # while it is in cache
            continue
        # with groups a batch of products; a lone one stays 2-D, the only kind that CuPy runs on tensor cores
        block = matmul(W[0, ...], matrix) if G == 1 else xp.reshape(matmul(W, matrix), (F, matrix.shape[-1]))
        if bias is not None:
            block += bias
        y[:, rows, columns, :] = xp.reshape(block, (F, rows.stop - rows.start, columns.stop - columns.start, N))
    return y


@register("agnostic", "conv2d_algorithm")
def conv2d_algorithm(x: Array, W: Array, window: Window) -> str:
    """Return "gemm" or "winograd" for a convolution that either can do: by a rule, not by timing, so runs repeat."""
    return "gemm"


@register("agnostic", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    xp = array_namespace(x)
    matrices = xp.reshape(W, (groups, W.shape[0] // groups, math.prod(W.shape[1:])))
    return batch_first(xp, _convolve(xp, batch_innermost(xp, x), matrices, b, window))


@register("agnostic", "conv2d_backward")
def conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    xp = array_namespace(dy)
    F, (OH, OW), N = W.shape[0], window.output, x.shape[0]
    dy_inner = batch_innermost(xp, dy)
    dy_flat = xp.reshape(dy_inner, (F, OH * OW * N))
    wide = wide_dtype(xp, dy.dtype)
    db = xp.astype(xp.sum(dy_flat, axis=1, dtype=wide), dy.dtype, copy=False) if need_db else None
    dW = _weight_gradient(xp, dy_inner, dy_flat, batch_innermost(xp, x), window, groups, wide)
    dW = xp.astype(xp.reshape(dW, tuple(W.shape)), dy.dtype, copy=False)
    dx = batch_first(xp, _input_gradient(xp, dy_inner, W, window, groups)) if need_dx else None
    return dx, dW, db


@register("agnostic", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: the forward of a transposed convolution."""
    xp = array_namespace(dy)
    return batch_first(xp, _input_gradient(xp, batch_innermost(xp, dy), W, window, groups))


def _weight_gradient(xp: Any, dy: Array, dy_flat: Array, x: Array, window: Window, groups: int, wide: Any) -> Array:
    """dW = sum over blocks of dy @ columns^T; (F, K) or (G, F/G, K), in the type `wide`."""
    F, N, OW = dy.shape[0], dy.shape[3], window.output[1]
    dW, matmul = None, find("matmul", xp)
    for rows, columns, matrix in _Columns(xp, x, window, groups).blocks():
        if _is_whole_rows(window, columns):
            part = dy_flat[:, rows.start * OW * N : rows.stop * OW * N]
        else:
            part = xp.reshape(dy[:, rows, columns, :], (F, matrix.shape[-1]))
        if groups == 1:
            product = matmul(part, matrix.T)
        else:
            product = matmul(xp.reshape(part, (groups, F // groups, matrix.shape[-1])), matrix.mT)
        product = xp.astype(product, wide, copy=False)
        dW = product if dW is None else dW + product
    return dW


def _input_gradient(xp: Any, dy: Array, W: Array, window: Window, groups: int) -> Array:
    """dx (C, H, W, N) of dy (F, OH, OW, N): a convolution where it can be one, else products scattered back."""
    F, channels, KH, KW = W.shape
    W5 = xp.reshape(W, (groups, F // groups, channels, KH, KW))
    mirrored = mirrored_window(window)
    if mirrored is not None:
        # a copy: where reshape gives a view, its strides are negative and no BLAS would take them
        flipped = xp.asarray(xp.permute_dims(xp.flip(W5, axis=(3, 4)), (0, 2, 1, 3, 4)), copy=True)
        return _convolve(xp, dy, xp.reshape(flipped, (groups, channels, F // groups * KH * KW)), None, mirrored)

    C, N = groups * channels, dy.shape[3]
    dx = xp.zeros((C, *window.input, N), dtype=wide_dtype(xp, dy.dtype), device=device_of(dy))
    W_mT = xp.permute_dims(xp.reshape(W5, (groups, F // groups, channels * KH * KW)), (0, 2, 1))
    itemsize, matmul = finfo(xp, dy.dtype).bits // 8, find("matmul", xp)
    for rows, columns in blocks(window, C * KH * KW * N * itemsize, block_budget()):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        part = dy[:, rows, columns, :]
        if groups == 1:
            col = matmul(W_mT[0, ...], xp.reshape(part, (F, height * width * N)))
        else:
            col = matmul(W_mT, xp.reshape(part, (groups, F // groups, height * width * N)))
        scatter_columns(dx, xp.reshape(col, (C, KH, KW, height, width, N)), window, rows, columns)
    return xp.astype(dx, dy.dtype, copy=False)


def mirrored_window(window: Window) -> Window | None:
    """With stride 1, dx is `dy` padded and convolved with the flipped kernel: no scatter. Else None."""
    if window.stride != (1, 1):
        return None
    pads = []
    for k, d, (before, after) in zip(window.kernel, window.dilation, window.padding, strict=True):
        reach = d * (k - 1)
        if before > reach or after > reach:
            return None
        pads.append((reach - before, reach - after))
    return Window(window.output, window.input, window.kernel, (1, 1), (pads[0], pads[1]), window.dilation)
