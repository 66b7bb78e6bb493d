"""Convolution by compiled loops: forward, weight gradient and the gradient of the input.

A matrix product with few rows is mostly packing. Here nothing is packed but the weights: a tile of filters times two
vectors of pixels is summed up in registers over all channels and taps.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from xpnet import config
from xpnet.backend import Array
from xpnet.kernels.agnostic.conv import mirrored_window
from xpnet.kernels.compiled import loader, strided
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.compiled.work import Work, done
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import conv
from xpnet.kernels.numpy.conv import LINE, is_one_product, scratch
from xpnet.kernels.table import register
from xpnet.kernels.team import shares

__all__ = [
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_input_gradient",
    "conv2d_relu_forward",
    "weight_gradient",
]

CACHE = 3 << 17  # bytes that the ring of input rows may take of the second-level cache
PAGE = 4096  # rows that are a multiple of it apart compete for the same few places in the first-level cache
SHORT = 128  # channels, or rows of a product, up to which BLAS is slow where they lie a multiple of a page apart
LONG = 256  # elements of a row of an image from which on the loops' tiles are full
PARTS = 8  # whose sums make up a weight gradient, whatever the number of threads: equal bits
SCRATCH = 4 << 20  # bytes of one thread for a weight gradient at most: the least workspace of "auto"; equal bits
WORK = 4_000_000  # multiply-adds for which it is worth to wake another thread
FEW = 4  # channels below which the filters' tiles of a gradient with a stride are too small to win
ROWS = 2  # of the output, at least, of a part: neighbours both load what lies between them


class _Plan(NamedTuple):
    """How the loops go through one convolution."""

    geometry: tuple[int, ...]
    images: int  # of a block
    columns: int  # of the output, of a block
    row: int  # elements of one row of one channel in the ring
    slots: int  # rows of the ring

    def blocks(self, parts: int) -> Iterator[tuple[int, ...]]:
        """Yield blocks of images, columns and, so that there are about so many `parts`, rows of the output."""
        N, OH, OW = self.geometry[3], self.geometry[5], self.geometry[6]
        images, columns = range(0, N, self.images), range(0, OW, self.columns)
        height = -(-OH // min(OH, -(-parts // (len(images) * len(columns)))))
        for n, begin, first in itertools.product(images, range(0, OH, height), columns):
            n_count, count = min(self.images, N - n), min(self.columns, OW - first)
            yield n, n_count, begin, min(begin + height, OH), first, count, self.row, self.slots


@functools.lru_cache(maxsize=256)
def _plan(shape: tuple[int, int, int, int], filters: int, window: Window, itemsize: int, room: int) -> _Plan | None:
    """Return how to go about `x` (C, H, W, N) with a ring of `room` bytes, or None if that is too little."""
    C, H, W_, N = shape
    (OH, OW), (KH, KW), (step, stride), (down, across) = window.output, window.kernel, window.stride, window.dilation
    slots, reach = down * (KH - 1) + 1, across * (KW - 1)
    tile = 2 * loader.module("_vectors").VECTOR // itemsize
    place = slots * C * itemsize  # bytes of one column of one image
    columns = (room // (place * N) - reach - 1) // stride + 1
    images = N
    if columns < min(OW, reach + 1):  # what neighbours both load would be most of it: fewer images then
        columns = min(OW, 2 * reach + 1)
        images = room // (place * ((columns - 1) * stride + reach + 1)) // tile * tile
        if images == 0:
            return None
    columns = -(-OW // -(-OW // min(columns, OW)))  # blocks of about equal width
    row = stride * -(-((columns - 1) * stride + reach + 1) // stride) * images + tile
    row += tile if row * itemsize % PAGE == 0 else 0
    top, left = window.padding[0][0], window.padding[1][0]
    geometry = (C, H, W_, N, filters, OH, OW, KH, KW, step, stride, top, left, down, across)
    return _Plan(geometry, images, columns, row, slots)


def _plan_for(kernel: str, x: np.ndarray, filters: int, window: Window, groups: int) -> _Plan | None:
    """Return the plan for what the loops were measured to win at and the workspace has room for, else None."""
    if is_one_product(x, window, groups) and not _beats_blas(kernel, x, filters, window):
        return None
    return _possible_plan(kernel, x, filters, window, groups)


def _beats_blas(kernel: str, x: np.ndarray, filters: int, window: Window) -> bool:
    """Whether the loops win at a 1x1 kernel on `x` (C, H, W, N).

    BLAS takes 0.3 to 0.9 of their time for the weight gradient and 0.6 to 1 for the rest, but for few channels whose
    rows compete for places in the cache: with vectors of 64 bytes it takes 1.05 to 1.4 and 1.2 to 2.4 of it there.
    """
    C, H, width, N = x.shape
    conflict = H * width * N * x.itemsize % PAGE == 0
    few = C <= SHORT and (kernel == "convolve" or filters <= SHORT)
    if not (window.is_pointwise and conflict and few and width * N >= LONG):
        return False
    return loader.usable("_conv_loops", kernel, x.dtype) and loader.module("_vectors").VECTOR == LINE


def _possible_plan(kernel: str, x: np.ndarray, filters: int, window: Window, groups: int) -> _Plan | None:
    work = filters * x.shape[0] * math.prod(window.kernel) * math.prod(window.output) * x.shape[3]
    if groups != 1 or work < loader.SMALL or not loader.usable("_conv_loops", kernel, x.dtype):
        return None
    workspace = config.get("conv_workspace")
    room = min(CACHE, workspace)
    plan = _plan(x.shape, filters, window, x.itemsize, room)
    if kernel == "weight_gradient":  # which holds a row of dy as well
        while plan is not None and _gradient_memory(plan, filters, x.itemsize) > min(workspace, SCRATCH):
            room //= 2
            plan = _plan(x.shape, filters, window, x.itemsize, room)
    return plan


def _gradient_tile(filters: int, taps: int) -> tuple[int, int, int]:
    """Return the filters of a tile of a weight gradient, and how many filters and taps its tiles make up in all.

    Of the tiles that there are, it is the one that wastes least.
    """
    whole = [(n, -(-filters // n) * n, -(-taps // t) * t) for n, t in loader.module("_tiles").GRADIENT_TILES.items()]
    return min(whole, key=lambda tile: (tile[1] * tile[2], -tile[0]))


def _gradient_sizes(plan: _Plan, channels: int, itemsize: int) -> tuple[int, int]:
    """Return how many elements the ring of a weight gradient has, and a row of one filter of dy."""
    lanes = loader.module("_vectors").VECTOR // itemsize
    row = -(-plan.columns * plan.images // lanes) * lanes
    row += lanes if row * itemsize % PAGE == 0 else 0
    return plan.slots * channels * plan.row + lanes, row


def _gradient_memory(plan: _Plan, filters: int, itemsize: int) -> int:
    """Return the bytes of scratch memory that one thread needs for a weight gradient."""
    C, KH, KW = plan.geometry[0], *plan.geometry[7:9]
    ring, row = _gradient_sizes(plan, C, itemsize)
    return (ring + _gradient_tile(filters, C * KH * KW)[1] * row) * itemsize


def _parts_worth(plan: _Plan, taps: int) -> int:
    """Return into how many parts it is worth to cut the work."""
    N, F, OH, OW = plan.geometry[3:7]
    return max(1, min(OH // ROWS, F * taps * OH * OW * N // WORK))


def _convolution(x: np.ndarray, W: np.ndarray, b: np.ndarray | None, plan: _Plan, relu: bool = False) -> Work:
    """Convolve `x` (C, H, W, N) with `W` (F, C, KH, KW): (N, F, OH, OW)."""
    tiles, vectors, (F, C) = loader.module("_tiles"), loader.module("_vectors"), W.shape[:2]
    _, _, _, N, _, OH, OW, *_ = plan.geometry
    y = np.empty((F, OH, OW, N), dtype=x.dtype)
    sizes = tiles.tile_sizes(F)
    weights, taps = np.empty(W.size, W.dtype), math.prod(W.shape[1:])
    loader.kernel("_conv_loops", "pack", x.dtype)(flat(W), sizes, W.shape[1:], weights)
    bias = np.zeros(F, x.dtype) if b is None else flat(b)
    ring_size = plan.slots * C * plan.row + tiles.FILTERS[0] * 2 * vectors.VECTOR // x.itemsize
    kernel, given, made = loader.kernel("_conv_loops", "convolve", x.dtype), flat(x), y.reshape(-1)

    def call(block: tuple[int, ...]) -> Callable[[], None]:
        def work() -> None:
            offsets = np.empty(taps, dtype=np.int64)
            ring = scratch((ring_size,), x.dtype)
            kernel(given, weights, bias, made, sizes, ring, offsets, relu, plan.geometry, block)

        return work

    blocks = plan.blocks(shares(_parts_worth(plan, taps)))
    return Work([call(block) for block in blocks], ring_size * x.itemsize, lambda: batch_first(np, y))


@register("compiled", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    plan = _plan_for("convolve", inner, W.shape[0], window, groups)
    if plan is None:
        return conv.conv2d_forward(x, W, b, window, groups)
    return done(_convolution(inner, W, b, plan))[0]


@register("compiled", "conv2d_relu_forward")
def conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    plan = _plan_for("convolve", inner, W.shape[0], window, groups)
    if plan is None:
        return conv.conv2d_relu_forward(x, W, b, window, groups)
    return done(_convolution(inner, W, b, plan, relu=True))[0]


@register("compiled", "conv2d_backward")
def conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    inner, dy_inner = batch_innermost(np, x), batch_innermost(np, dy)
    work = weight_gradient(inner, dy_inner, W.shape, window, groups, need_db)
    if work is None:
        apart = need_dx and is_one_product(inner, window, groups)  # BLAS may be faster at dW alone
        dx, dW, db = conv.conv2d_backward(dy, x, W, window, groups, need_dx and not apart, need_db)
        return (conv2d_input_gradient(batch_first(np, dy_inner), W, window, groups) if apart else dx), dW, db
    works = [work]
    dx = _input_gradient(dy_inner, W, window, groups) if need_dx else None
    if dx is not None:
        works.append(dx)
    (dW, db), *made = done(*works)
    if need_dx and not made:
        made = [conv2d_input_gradient(batch_first(np, dy_inner), W, window, groups)]
    return (made[0] if need_dx else None), dW, db


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, shape: tuple[int, ...], window: Window, groups: int, need_db: bool
) -> Work | None:
    """Return dW of a shape and db, or None, of `x` (C, H, W, N) and `dy` (F, OH, OW, N), if the loops win at it."""
    plan = _plan_for("weight_gradient", x, shape[0], window, groups)
    if plan is None:
        return None
    (F, C), K = shape[:2], math.prod(shape[1:])
    size, filters, taps = _gradient_tile(F, K)
    ring_size, row_size = _gradient_sizes(plan, C, x.itemsize)
    kernel, given, gradient = loader.kernel("_conv_loops", "weight_gradient", x.dtype), flat(x), flat(dy)
    blocks = list(plan.blocks(min(PARTS, _parts_worth(plan, K))))
    sums, bias = np.zeros((len(blocks), filters * taps), x.dtype), np.zeros((len(blocks), F if need_db else 0), x.dtype)

    def call(block: tuple[int, ...], *out: np.ndarray) -> Callable[[], None]:
        def work() -> None:
            offsets = np.zeros(taps, dtype=np.int64)
            memory = scratch((ring_size + filters * row_size,), x.dtype)
            kernel(given, gradient, *out, memory[:ring_size], memory[ring_size:], offsets, size, plan.geometry, block)

        return work

    def result() -> tuple[np.ndarray, np.ndarray | None]:
        # in the order in which the loops go through the taps
        by_rows = sums.sum(axis=0).reshape(filters, taps)[:F, :K].reshape(F, shape[2], C, shape[3])
        return np.ascontiguousarray(by_rows.transpose(0, 2, 1, 3)), bias.sum(axis=0) if need_db else None

    calls = [call(*one) for one in zip(blocks, sums, bias, strict=True)]
    return Work(calls, _gradient_memory(plan, F, x.itemsize), result)


@register("compiled", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: one or several convolutions with flipped kernels."""
    inner = batch_innermost(np, dy)
    if is_one_product(inner, window, groups) and not window.is_pointwise:
        return conv.conv2d_input_gradient(dy, W, window, groups)
    if mirrored_window(window) is None and window.dilation == (1, 1) and W.shape[1] >= FEW:
        return _strided_input_gradient(inner, W, window, groups)
    work = _input_gradient(inner, W, window, groups)
    return conv.conv2d_input_gradient(dy, W, window, groups) if work is None else done(work)[0]


def _input_gradient(dy: np.ndarray, W: np.ndarray, window: Window, groups: int) -> Work | None:
    """Return dx (N, C, H, W) of dy (F, OH, OW, N), if it is one convolution that the loops win at."""
    mirrored = mirrored_window(window)
    plan = None if mirrored is None else _plan_for("convolve", dy, W.shape[1], mirrored, groups)
    if plan is None:
        return None
    return _convolution(dy, np.flip(W, axis=(2, 3)).transpose(1, 0, 2, 3), None, plan)


def _strided_input_gradient(dy: np.ndarray, W: np.ndarray, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (F, OH, OW, N), made grid by grid."""
    planned: list[tuple[strided.Grid, _Plan]] = []
    for grid in strided.grids(window):
        plan = _possible_plan("convolve", dy, W.shape[1], grid.window, groups)
        if plan is None:
            return conv.conv2d_input_gradient(batch_first(np, dy), W, window, groups)
        planned.append((grid, plan))
    dx = batch_first(np, np.zeros((W.shape[1], *window.input, dy.shape[3]), dtype=dy.dtype))
    for grid, plan in planned:
        (dx[:, :, grid.rows, grid.columns],) = done(_convolution(dy, grid.kernel(W), None, plan))
    return dx
