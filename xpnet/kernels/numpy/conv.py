"""Convolution for NumPy by overlapping columns: each column of the kernel is gathered once, not each tap.

In memory ordered (H, KW, C, OW, N) the columns of output row ``oh`` are those of the KH input rows from
``oh * stride`` on, which lie one after another: BLAS takes them as one matrix (KH*KW*C, OW*N) in place, and the next
output row's matrix overlaps it. So a 3x3 kernel copies the image three times where im2col copies it nine times.
"""

from __future__ import annotations

import functools
import math
import threading

import numpy as np

from xpnet import config
from xpnet.backend import Array
from xpnet.kernels.agnostic import conv, relu
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy.product import matmul, row_sums, threads_worth
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, run_all

__all__ = [
    "at_most",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_input_gradient",
    "conv2d_relu_forward",
    "is_one_product",
    "scratch",
]

# OpenBLAS multiplies without packing up to about so many multiply-adds; with few filters packing is most of the work
SMALL_PRODUCT = 1_000_000

PRODUCTS = 1 << 18  # bytes of weight gradients of single output rows that are made before they are summed up

LINE = 64  # bytes of a line of the cache, at whose borders loads take twice as long

_local = threading.local()  # one scratch buffer a thread, kept from call to call


def scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return memory of this thread for the length of one convolution: fresh pages cost as much as filling them."""
    size = math.prod(shape) * dtype.itemsize
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size + LINE, dtype=np.uint8)
        buffer = _local.buffer = buffer[-buffer.__array_interface__["data"][0] % LINE :]
    return buffer[:size].view(dtype).reshape(shape)


def at_most(scratch_bytes: int) -> int:
    """Return how many threads' memory the workspace holds; how the work is cut, and so the bits, do not hang on it."""
    return config.get("conv_workspace") // scratch_bytes


def _fits(x: np.ndarray, window: Window, groups: int) -> bool:
    """Whether the columns can be had as a view, and those of one output pixel (of all images) fit the workspace."""
    small = x.shape[0] * math.prod(window.kernel) * x.shape[3] * x.itemsize <= config.get("conv_workspace")
    return groups == 1 and window.dilation[0] == 1 and window.kernel != (1, 1) and small and x.dtype.char in "fd"


def is_one_product(x: np.ndarray, window: Window, groups: int) -> bool:
    """Whether a convolution of `x` is one product: no columns, nothing to share out but what BLAS can."""
    unpadded = window.padding == ((0, 0), (0, 0))
    return groups == 1 and window.kernel == (1, 1) and unpadded and x.dtype.char in "fd"


def _pixels_seen(x: np.ndarray, window: Window) -> np.ndarray:
    """Return the pixels of `x` (C, H, W, N) that a 1x1 kernel sees: all of them as they lie, or a copy of some."""
    return x if window.is_pointwise else np.ascontiguousarray(_seen(x, window))


def _seen(x: np.ndarray, window: Window) -> np.ndarray:
    """Return the view of what a 1x1 kernel sees: with output_padding a transposed one leaves out more at the ends."""
    (OH, OW), (down, across) = window.output, window.stride
    return x[:, ::down, ::across][:, :OH, :OW]


def _rows(x: np.ndarray) -> np.ndarray:
    """Return `x` (C, H, W, N) as a matrix of one row for each channel: a view."""
    return x.reshape(len(x), -1)


def _blocks(window: Window, bytes_per_pixel: int, threads: int) -> list[tuple[slice, slice]]:
    """Cut the output into blocks (rows, columns), at least one a thread if there is that much of it.

    For the input rows of a block, at that many bytes a pixel, there is room in a thread's share of the workspace.
    Rows that follow one another share what they read, so columns are split before there are fewer than four rows.
    """
    (OH, OW), KH, stride = window.output, window.kernel[0], window.stride[0]
    room = config.get("conv_workspace") // threads // bytes_per_pixel
    width = min(OW, max(1, room // (KH + 3 * stride)))
    width = -(-OW // -(-OW // width))  # parts of about equal width, and blocks of about equal height
    height = max(1, (room // width - KH) // stride + 1)
    height = min(height, -(-OH // threads))
    height = -(-OH // -(-OH // height))
    return [
        (slice(row, min(row + height, OH)), slice(column, min(column + width, OW)))
        for column in range(0, OW, width)
        for row in range(0, OH, height)
    ]


def _columns(x: np.ndarray, window: Window, rows: slice, columns: slice) -> np.ndarray:
    """Return what each output row of a block reads of `x` (C, H, W, N): (rows, KH*KW*C, columns*N), overlapping."""
    C, _, _, N = x.shape
    (KH, KW), stride = window.kernel, window.stride[0]
    count, L = rows.stop - rows.start, (columns.stop - columns.start) * N
    buffer = scratch(((count - 1) * stride + KH, KW, C, columns.stop - columns.start, N), x.dtype)
    _gather(buffer, x, rows.start * stride - window.padding[0][0], columns, window)
    step = L * x.itemsize
    return np.lib.stride_tricks.as_strided(buffer, (count, KH * KW * C, L), (stride * KW * C * step, step, x.itemsize))


def _threads(F: int, x: np.ndarray, window: Window) -> int:
    """Return how many threads a convolution of `x` (C, H, W, N) is worth, if the workspace holds a block for each."""
    smallest = x.shape[0] * math.prod(window.kernel) * x.shape[3]  # numbers that one output pixel of all images reads
    threads = threads_worth(F * smallest * math.prod(window.output))
    return max(1, min(threads, config.get("conv_workspace") // (smallest * x.itemsize)))


def _gather(buffer: np.ndarray, x: np.ndarray, first: int, columns: slice, window: Window) -> None:
    """Fill ``buffer[h, j, c, ow, n]`` with what tap (., j) of output column ow reads in input row ``first + h``."""
    above, stop = max(0, -first), min(buffer.shape[0], x.shape[1] - first)
    buffer[:above] = 0.0
    buffer[max(above, stop) :] = 0.0
    if stop <= above:
        return
    image = x[:, first + above : first + stop].transpose(1, 0, 2, 3)
    for tap in window.taps(slice(0, 1), columns):
        if tap.i:
            break  # what the columns read is the same for every row of the kernel
        target, inside = buffer[above:stop, tap.j], tap.out_columns
        if inside.start > 0:
            target[:, :, : inside.start] = 0.0
        if inside.stop < buffer.shape[3]:
            target[:, :, inside.stop :] = 0.0
        target[:, :, inside] = image[:, :, tap.in_columns]


def _multiply(W: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write W (F, K) @ columns (rows, K, L) into `out` (rows, F, L).

    With few filters in pieces that need no packing. It is one call either way: threads that come back from BLAS after
    every row would wait for one another.
    """
    (F, K), (R, _, L) = W.shape, columns.shape
    step = L
    while F * K * step > SMALL_PRODUCT and step % 2 == 0 and step > 128:
        step //= 2
    if step == L or F * K * step > SMALL_PRODUCT:
        np.matmul(W, columns, out=out)
    else:
        pieces = columns.reshape(R, K, L // step, step).transpose(0, 2, 1, 3)
        np.matmul(W, pieces, out=out.reshape(R, F, L // step, step).transpose(0, 2, 1, 3))


def _convolve(
    x: np.ndarray, W: np.ndarray, b: np.ndarray | None, window: Window, rectified: bool = False
) -> np.ndarray:
    """Convolve `x` (C, H, W, N) with `W` (F, KH, KW, C), and no less than 0 with `rectified`: (F, OH, OW, N)."""
    (F, _, KW, C), N = W.shape, x.shape[3]
    y = np.empty((F, *window.output, N), dtype=x.dtype)
    matrix = W.reshape(F, -1)

    def convolve(rows: slice, part: slice) -> None:
        block = y[:, rows, part].reshape(F, rows.stop - rows.start, -1)  # a view
        _multiply(matrix, _columns(x, window, rows, part), block.transpose(1, 0, 2))
        _finish(block, b, rectified)

    threads = _threads(F, x, window)
    blocks = _blocks(window, KW * C * N * x.itemsize, threads)
    run_all([functools.partial(convolve, *block) for block in blocks], products=True, at_most=threads)
    return y


def _finish(block: np.ndarray, b: np.ndarray | None, rectified: bool) -> None:
    """Add the bias to a block (F, ...), and leave nothing below 0 with `rectified`, while it is in cache."""
    if b is not None:
        block += b.reshape(-1, *[1] * (block.ndim - 1))
    if rectified:
        np.maximum(block, 0.0, out=block)


def _product(x: np.ndarray, matrix: np.ndarray, b: np.ndarray | None = None, rectified: bool = False) -> np.ndarray:
    """Return `matrix` (F, C) @ `x` (C, H, W, N) + `b`, and no less than 0 with `rectified`: (F, H, W, N)."""
    rows = _rows(x)
    y = np.empty((len(matrix), *x.shape[1:]), dtype=x.dtype)
    made = _rows(y)

    def multiply(part: slice) -> None:
        block = made[:, part]
        np.matmul(matrix, rows[:, part], out=block)
        _finish(block, b, rectified)

    parts = cut(rows.shape[1], threads_worth(matrix.size * rows.shape[1]))
    run_all([functools.partial(multiply, part) for part in parts], products=True)
    return y


def _taps_first(W: np.ndarray) -> np.ndarray:
    """Return W (F, C, KH, KW) as (F, KH, KW, C), contiguous."""
    return np.ascontiguousarray(W.transpose(0, 2, 3, 1))


@register("numpy", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    if is_one_product(inner, window, groups):
        return batch_first(np, _product(_pixels_seen(inner, window), W.reshape(W.shape[:2]), b))
    if not _fits(inner, window, groups):
        return conv.conv2d_forward(x, W, b, window, groups)
    return batch_first(np, _convolve(inner, _taps_first(W), b, window))


@register("numpy", "conv2d_relu_forward")
def conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    if is_one_product(inner, window, groups):
        return batch_first(np, _product(_pixels_seen(inner, window), W.reshape(W.shape[:2]), b, rectified=True))
    if not _fits(inner, window, groups):
        return relu.conv2d_relu_forward(x, W, b, window, groups)
    return batch_first(np, _convolve(inner, _taps_first(W), b, window, rectified=True))


@register("numpy", "conv2d_backward")
def conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    inner, dy_inner = batch_innermost(np, x), batch_innermost(np, dy)
    if is_one_product(inner, window, groups):
        dW = matmul(_rows(dy_inner), _rows(_pixels_seen(inner, window)).T).reshape(W.shape)
    elif _fits(inner, window, groups):
        dW = _weight_gradient(inner, dy_inner, W.shape, window)
    else:
        return conv.conv2d_backward(dy, x, W, window, groups, need_dx, need_db)
    db = row_sums(dy_inner) if need_db else None
    dx = conv2d_input_gradient(batch_first(np, dy_inner), W, window, groups) if need_dx else None
    return dx, dW, db


def _weight_gradient(x: np.ndarray, dy: np.ndarray, shape: tuple[int, ...], window: Window) -> np.ndarray:
    """Return dW of `x` (C, H, W, N) and `dy` (F, OH, OW, N)."""
    F, C, KH, KW = shape
    threads = _threads(F, x, window)
    blocks = _blocks(window, KW * C * x.shape[3] * x.itemsize, threads)
    sums = np.zeros((threads, KH * KW * C, F), dtype=x.dtype)
    at_once = max(1, PRODUCTS // sums[0].nbytes)  # output rows

    def add(total: np.ndarray, part: list[tuple[slice, slice]]) -> None:
        for rows, taken in part:
            columns = _columns(x, window, rows, taken)
            gradient = dy[:, rows, taken].reshape(F, len(columns), -1).transpose(1, 2, 0)
            for row in range(0, len(columns), at_once):
                # columns @ dy^T: the other way round BLAS took up to twice as long with few filters
                products = np.matmul(columns[row : row + at_once], gradient[row : row + at_once])
                np.add(total, products.sum(axis=0), out=total)

    # which blocks are summed together does not depend on which thread is the faster one
    parts = [blocks[part] for part in cut(len(blocks), threads)]
    run_all([functools.partial(add, total, part) for total, part in zip(sums, parts, strict=True)], products=True)
    dW = functools.reduce(np.add, sums)
    return np.ascontiguousarray(dW.reshape(KH, KW, C, F).transpose(3, 2, 0, 1))


@register("numpy", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: with stride 1 a convolution with the flipped kernels."""
    inner = batch_innermost(np, dy)
    if is_one_product(inner, window, groups):
        made = _product(inner, W.reshape(W.shape[:2]).T)
        if window.is_pointwise:
            return batch_first(np, made)
        dx = np.zeros((len(made), *window.input, made.shape[3]), dtype=made.dtype)
        _seen(dx, window)[...] = made
        return batch_first(np, dx)
    mirrored = conv.mirrored_window(window)
    if mirrored is None or not _fits(inner, mirrored, groups):
        return conv.conv2d_input_gradient(dy, W, window, groups)
    flipped = np.ascontiguousarray(np.flip(W, axis=(2, 3)).transpose(1, 2, 3, 0))
    return batch_first(np, _convolve(inner, flipped, None, mirrored))
