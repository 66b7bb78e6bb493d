"""Winograd's convolution by compiled loops, and its weight gradient.

The transforms are sums of vectors of images, not products with matrices, so tiles pay from few channels on. In the
weight gradient a tile of 4x4 gradients and one of 6x6 inputs, both transformed, are multiplied point by point and
summed up over all tiles, and the sums transformed into 3x3 kernels once: 36 multiplications where there were 144.
In float32 relative errors were 1e-6 to 2e-6 forward and 2e-6 to 5e-6 of the weight gradient, where direct sums have
1e-7 to 1e-6.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xpnet import config
from xpnet.backend import Array
from xpnet.cores import threads_allowed
from xpnet.kernels.agnostic.conv import mirrored_window
from xpnet.kernels.agnostic.winograd import POINTS, STEP, TILE
from xpnet.kernels.compiled import conv, loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.compiled.work import Work, done
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import winograd
from xpnet.kernels.numpy.conv import scratch
from xpnet.kernels.numpy.product import row_sums
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, parts_worth, run_all, run_ranges, shares

__all__ = [
    "conv2d_algorithm",
    "winograd_conv2d_backward",
    "winograd_conv2d_forward",
    "winograd_conv2d_relu_forward",
]

CHANNELS = 16  # on both sides: with fewer, the direct loops are no slower
WASTE = 1.7  # tiles that reach beyond the output cost as much as others, and so do vectors with fewer images
PAIRS = 4  # of vectors, at most, that are worked at together
SQUARE = 64  # channels and filters, at most, whose gradient is summed up at a time
PARTS = 8  # whose sums make up a weight gradient, whatever the number of threads: equal bits
LEAST = 128  # tiles, of all images, of such a part


class _Tiles(NamedTuple):
    """How the tiles lie on a convolution."""

    geometry: tuple[int, ...]
    vectors: int
    lanes: int  # images of a vector


def _tiles(x: np.ndarray, filters: int, window: Window) -> _Tiles:
    C, H, W, N = x.shape
    (OH, OW), lanes = window.output, loader.module("_vectors").VECTOR // x.itemsize
    geometry = (C, H, W, N, filters, OH, OW, window.padding[0][0], window.padding[1][0])
    return _Tiles(geometry, -(-OH // STEP) * -(-OW // STEP) * -(-N // lanes), lanes)


def _usable(kernel: str, x: np.ndarray, filters: int, window: Window) -> bool:
    """Tell whether there are whole vectors of images `x` (C, H, W, N), and enough to do to compile the loops."""
    work = filters * x.shape[0] * math.prod(window.kernel) * math.prod(window.output) * x.shape[3]
    if work < loader.SMALL or not loader.usable("_winograd_loops", kernel, x.dtype):
        return False
    return x.shape[3] >= loader.module("_vectors").VECTOR // x.itemsize


@register("compiled", "conv2d_algorithm")
def conv2d_algorithm(x: Array, W: Array, window: Window) -> str:
    """Return "winograd" where a 3x3 convolution without groups was measured to gain by it, else "gemm"."""
    inner = x.transpose(1, 2, 3, 0)
    if not _usable("convolve", inner, W.shape[0], window):
        few = min(W.shape[:2]) < 2 * winograd.CHANNELS and loader.usable("_conv_loops", "convolve", W.dtype)
        return "gemm" if few else winograd.conv2d_algorithm(x, W, window)
    tiles = _tiles(inner, W.shape[0], window)
    done = tiles.vectors * tiles.lanes * STEP * STEP
    gains = min(W.shape[:2]) >= CHANNELS and done <= WASTE * math.prod(window.output) * x.shape[0]
    return "winograd" if gains else "gemm"


@register("compiled", "winograd_conv2d_forward")
def winograd_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C, 3, 3), stride 1, no groups: (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    pairs = _pairs(inner, W, window)
    if pairs == 0:
        return winograd.winograd_conv2d_forward(x, W, b, window, groups)
    return done(_convolve(inner, W, b, window, pairs, -np.inf))[0]


@register("compiled", "winograd_conv2d_relu_forward")
def winograd_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW), by Winograd's tiles."""
    inner = batch_innermost(np, x)
    pairs = _pairs(inner, W, window)
    if pairs == 0:
        return winograd.winograd_conv2d_relu_forward(x, W, b, window, groups)
    return done(_convolve(inner, W, b, window, pairs, 0.0))[0]


def _sizes(channels: int, lanes: int) -> tuple[int, int]:
    """Return how many elements a pair of vectors takes, of all channels and of the products of some filters."""
    loops = loader.module("_winograd_loops")
    wide = 2 * lanes
    return POINTS * -(-channels // loops.BLOCK) * (loops.BLOCK + 1) * wide, POINTS * (loops.GROUP + 1) * wide


def _pairs(x: np.ndarray, W: np.ndarray, window: Window) -> int:
    """Return how many pairs of vectors to work at together; 0 where these loops cannot be used."""
    if not _usable("convolve", x, W.shape[0], window):
        return 0
    tiles = _tiles(x, W.shape[0], window)
    room = config.get("conv_workspace") // (sum(_sizes(W.shape[1], tiles.lanes)) * x.itemsize)
    return min(room, max(1, min(PAIRS, room // threads_allowed())))


def _transform_kernels(W: np.ndarray, lanes: int) -> np.ndarray:
    """Return W (F, C, 3, 3) transformed: (36, F, C), each point with some room behind it."""
    vectors = -(-W.shape[0] * W.shape[1] // lanes)
    room = 2 + 2 * (vectors // 2 % 2)  # vectors: points do not compete for the same places in the cache
    made = np.empty(POINTS * (vectors + room) * lanes, dtype=W.dtype)
    kernel = loader.kernel("_winograd_loops", "transform_kernels", W.dtype)
    run_ranges(kernel, (W if W.flags.writeable else W.copy(), made), vectors, made.size)
    return made


def _convolve(x: np.ndarray, W: np.ndarray, b: np.ndarray | None, window: Window, pairs: int, least: float) -> Work:
    """Convolve `x` (C, H, W, N) with `W` (F, C, 3, 3), and no less than `least`: (N, F, OH, OW)."""
    F, C = W.shape[:2]
    tiles = _tiles(x, F, window)
    kernel = loader.kernel("_winograd_loops", "convolve", x.dtype)
    transformed = _transform_kernels(W, tiles.lanes)
    bias = np.zeros(F, x.dtype) if b is None else flat(b)
    y = np.empty((F, *window.output, x.shape[3]), dtype=x.dtype)
    given, made, nothing = flat(x), y.reshape(-1), np.zeros(TILE * x.shape[3], dtype=x.dtype)
    floor = x.dtype.type(least)
    inputs, products = (pairs * size for size in _sizes(C, tiles.lanes))

    def call(part: slice) -> Callable[[], None]:
        def work() -> None:
            memory, places = scratch((inputs + products,), x.dtype), np.empty(8 * pairs, dtype=np.int64)
            kernel(given, transformed, bias, made, memory[:inputs], memory[inputs:], places, nothing, floor,
                   tiles.geometry, part.start, part.stop)  # fmt: skip

        return work

    worth = F * C * POINTS * tiles.vectors * tiles.lanes // conv.WORK
    parts = cut(tiles.vectors, shares(min(worth, tiles.vectors // 2)))
    return Work([call(part) for part in parts], (inputs + products) * x.itemsize, lambda: batch_first(np, y))


@register("compiled", "winograd_conv2d_backward")
def winograd_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    inner, dy_inner = batch_innermost(np, x), batch_innermost(np, dy)
    dy, x = batch_first(np, dy_inner), batch_first(np, inner)
    if min(W.shape[:2]) >= CHANNELS and _gradient_fits(inner, W, window):
        gradient: Work | None = _weight_gradient(inner, dy_inner, window, need_db)
    else:
        gradient = conv.weight_gradient(inner, dy_inner, W.shape, window, groups, need_db)
    mirrored, flipped = mirrored_window(window), np.flip(W, axis=(2, 3)).transpose(1, 0, 2, 3)
    convolution = None
    if need_dx and mirrored is not None:
        pairs = _pairs(dy_inner, flipped, mirrored)
        convolution = _convolve(dy_inner, flipped, None, mirrored, pairs, -np.inf) if pairs else None
    made = iter(done(*(work for work in (gradient, convolution) if work is not None)))
    if gradient is None:
        _, dW, db = conv.conv2d_backward(dy, x, W, window, groups, False, need_db)
    else:
        dW, db = next(made)
    if not need_dx:
        return None, dW, db
    if convolution is not None:
        return next(made), dW, db
    if mirrored is None:  # more padding than the kernel reaches
        return conv.conv2d_input_gradient(dy, W, window, groups), dW, db
    return winograd.winograd_conv2d_forward(dy, flipped, None, mirrored, groups), dW, db


def _panel(channels: int, lanes: int) -> int:
    """Return how many channels a product goes through at a time: a vector, or two where there are more."""
    return lanes if channels <= lanes else 2 * lanes


def _gradient_sizes(channels: int, filters: int, wide: int, lanes: int) -> tuple[int, ...]:
    """Return how many elements the sums take, the inputs, the gradients, and a square of vectors at each point."""
    row = loader.module("_winograd_loops").SIZE * lanes
    padded = -(-channels // wide) * wide
    sums, inputs = POINTS * padded * filters, POINTS * padded * row
    return sums, inputs, filters * (POINTS * row + wide), POINTS * lanes * lanes


def _gradient_fits(x: np.ndarray, W: np.ndarray, window: Window) -> bool:
    F, C = W.shape[:2]
    if not _usable("weight_gradient", x, F, window):
        return False
    lanes = _tiles(x, F, window).lanes
    sizes = _gradient_sizes(min(C, SQUARE), min(F, SQUARE), _panel(C, lanes), lanes)
    return sum(sizes) * x.itemsize <= config.get("conv_workspace")


def _weight_gradient(x: np.ndarray, dy: np.ndarray, window: Window, need_db: bool) -> Work:
    """Return dW and db, or None, of `x` (C, H, W, N) and `dy` (F, OH, OW, N)."""
    C, F = len(x), len(dy)
    tiles = _tiles(x, F, window)
    wide = _panel(C, tiles.lanes)
    kernel = loader.kernel("_winograd_loops", "weight_gradient", x.dtype)
    given, gradient, nothing = flat(x), flat(dy), np.zeros(TILE * x.shape[3], dtype=x.dtype)
    firsts = itertools.product(range(0, C, SQUARE), range(0, F, SQUARE))
    squares = [(c, f, min(SQUARE, C - c), min(SQUARE, F - f), wide) for c, f in firsts]
    parts = cut(tiles.vectors, max(1, min(-(-PARTS // len(squares)), tiles.vectors * tiles.lanes // LEAST)))
    made = np.empty((len(parts), 9, -(-C // wide), F, wide), dtype=x.dtype)
    memory_needed = sum(_gradient_sizes(min(C, SQUARE), min(F, SQUARE), wide, tiles.lanes)) * x.itemsize

    def call(square: tuple[int, ...], part: slice, out: np.ndarray) -> Callable[[], None]:
        def work() -> None:
            sizes = _gradient_sizes(square[2], square[3], wide, tiles.lanes)
            ends = list(itertools.accumulate(sizes))
            memory = np.split(scratch((ends[-1],), x.dtype), ends[:-1])
            places = np.empty(4 * loader.module("_winograd_loops").SIZE, dtype=np.int64)
            kernel(given, gradient, out, *memory, places, nothing, tiles.geometry, square, part.start, part.stop)

        return work

    calls = [call(square, part, out.reshape(-1)) for square in squares for part, out in zip(parts, made, strict=True)]

    def result() -> tuple[np.ndarray, np.ndarray | None]:
        dW = np.empty((F, C, 9), dtype=x.dtype)

        def add_up(some: slice) -> None:
            total = made[:, :, :, some].sum(axis=0).transpose(2, 1, 3, 0)
            dW[some] = total.reshape(len(total), -1, 9)[:, :C]

        run_all([functools.partial(add_up, some) for some in cut(F, parts_worth(threads_allowed(), F, made.size))])
        return dW.reshape(F, C, 3, 3), row_sums(dy) if need_db else None

    return Work(calls, memory_needed, result)
