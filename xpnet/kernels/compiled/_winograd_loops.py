"""Convolution by Winograd's tiles, and its weight gradient, compiled.

The unit of work is a vector: a tile of the output in as many images as a vector has elements. Some vectors at a time
are transformed and multiplied in memory that stays in the cache. Those of a tile that are left over are taken from
the end of the batch, so that every vector is whole.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from xpnet.kernels.agnostic.winograd import POINTS, STEP
from xpnet.kernels.compiled._compile import Kernel, inline
from xpnet.kernels.compiled._tiles import BLOCK, product_tile
from xpnet.kernels.compiled._vectors import VECTOR, clear, transpose
from xpnet.kernels.compiled._winograd_tiles import (
    gradient_points,
    input_points,
    kernel_points,
    kernel_tile,
    output_tile,
)


@inline
def _find_places(places: Any, first: int, last: int, lanes: int, geometry: Any) -> None:
    """Write row and column of each vector's tile, its first image, and how many of its images were there before."""
    N, OW = geometry[3], geometry[6]
    across, parts = -(-OW // STEP), -(-N // lanes)
    for k in range(places.size // 4):
        vector = min(first + k, last - 1)  # the last one once more where there is room
        tile, n = vector // parts, vector % parts * lanes
        places[4 * k], places[4 * k + 1] = tile // across * STEP, tile % across * STEP
        places[4 * k + 2] = min(n, N - lanes)
        places[4 * k + 3] = n - places[4 * k + 2]


def _transform_kernels(w: Any, u: Any, begin: int, end: int) -> None:
    """Write the vectors `begin` to `end` of u (36, ...), of kernels w (F, C, 3, 3)."""
    lanes, plane, (F, C) = VECTOR // w.itemsize, u.size // POINTS, w.shape[:2]
    taps = np.zeros(9 * lanes, w.dtype)
    for k in range(begin * lanes, end * lanes, lanes):
        for lane in range(lanes):
            f, c = (k + lane) // C, (k + lane) % C
            if f < F:  # what is left in the last vector is read by nobody
                for tap in range(9):
                    taps[tap * lanes + lane] = w[f, c, tap // 3, tap % 3]
        kernel_points(u, k, plane, taps, 0, 0, 0, 3, 3, lanes, 0, taps)


def _multiplier(vectors: int) -> Callable[..., Any]:
    """Return ``multiply(out, at, add, a, a_at, step, rows, b, b_at, leap, count)`` for products so many vectors wide.

    It writes, or adds, `rows` of a @ b, as a `product_tile` does, by tiles that waste least.
    """
    six, four, two, one = (product_tile(n, vectors) for n in (6, 4, 2, 1))

    @inline
    def multiply(out: Any, at: int, add: bool, a: Any, a_at: int, step: int, rows: int, b: Any, b_at: int, leap: int,
                 count: int) -> None:  # fmt: skip
        wide, f = vectors * VECTOR // out.itemsize, 0
        while f < rows:
            left = rows - f
            if left >= 6 and left != 8:
                six(out, at + f * wide, add, a, a_at + f * step, step, b, b_at, leap, count)
                f += 6
            elif left >= 4:
                four(out, at + f * wide, add, a, a_at + f * step, step, b, b_at, leap, count)
                f += 4
            elif left >= 2:
                two(out, at + f * wide, add, a, a_at + f * step, step, b, b_at, leap, count)
                f += 2
            else:
                one(out, at + f * wide, add, a, a_at + f * step, step, b, b_at, leap, count)
                f += 1

    return multiply


_multiply, _multiply_narrow = _multiplier(2), _multiplier(1)


def _convolve(x: Any, u: Any, b: Any, y: Any, inputs: Any, products: Any, places: Any, nothing: Any,
              least: Any, geometry: Any, begin: int, end: int) -> None:  # fmt: skip
    """Write the vectors `begin` to `end` of y (F, OH, OW, N), for some filters at a time.

    `u` are the transformed kernels (36, F, C), each point with some room behind it. `inputs` hold (pairs of vectors,
    blocks of channels, 36, channels of a block), `products` (pairs, 36, filters).
    """
    C, H, W, N, F, OH, OW, top, left = geometry
    lanes, size = VECTOR // x.itemsize, places.size // 4
    wide = 2 * lanes
    plane, behind = (BLOCK + 1) * wide, (GROUP + 1) * wide  # one more: not all of them in the same place of the cache
    leap, kernels = POINTS * plane, u.size // POINTS
    pair_inputs, pair_products = -(-C // BLOCK) * leap, POINTS * behind
    for first in range(begin, end, size):
        _find_places(places, first, end, lanes, geometry)
        count = min(size, end - first)
        count += count % 2
        for c in range(C):
            for k in range(count):
                at = k // 2 * pair_inputs + c // BLOCK * leap + c % BLOCK * wide + k % 2 * lanes
                h, w, n = places[4 * k] - top, places[4 * k + 1] - left, places[4 * k + 2]
                input_points(inputs, at, plane, x, c * H * W * N + n, h, w, H, W, N, 0, nothing)
        for f in range(0, F, GROUP):
            rows = min(GROUP, F - f)
            for point in range(POINTS):
                for pair in range(count // 2):
                    to, source = pair * pair_products + point * behind, pair * pair_inputs + point * plane
                    _multiply(products, to, False, u, point * kernels + f * C, C, rows, inputs, source, leap, C)
            for g in range(rows):
                for k in range(count):
                    at = k // 2 * pair_products + g * wide + k % 2 * lanes
                    h, w, n = places[4 * k], places[4 * k + 1], places[4 * k + 2]
                    output_tile(y, (f + g) * OH * OW * N + n, h, w, OH, OW, N, products, at, behind, b[f + g], least)


def _weight_gradient(x: Any, dy: Any, dw: Any, sums: Any, inputs: Any, gradients: Any, square: Any, places: Any,
                     nothing: Any, geometry: Any, part: Any, begin: int, end: int) -> None:  # fmt: skip
    """Write to dw (3x3, panels of one or two vectors of channels, F, channels) what vectors `begin` to `end` give.

    `part` are the first channel and filter, how many of them, and the channels of a panel. `sums` hold (36, panels,
    filters, channels of a panel), `inputs` (36, panels, pixels, their channels), `gradients` (filters, 36, pixels).
    """
    C, H, W, N, F, OH, OW, top, left = geometry
    c, f, channels, filters, wide = part
    lanes, panels = VECTOR // x.itemsize, -(-channels // wide)
    row = SIZE * lanes
    step = POINTS * row + wide
    plane = inputs.size // POINTS
    clear(sums, 0, sums.size)
    for first in range(begin, end, SIZE):
        _find_places(places, first, end, lanes, geometry)
        length = min(SIZE, end - first) * lanes
        for e in range(0, panels * wide, lanes):  # so many channels at a time
            if e + lanes > channels:
                clear(square, 0, square.size)
            for k in range(length // lanes):
                h, w, n = places[4 * k] - top, places[4 * k + 1] - left, places[4 * k + 2]
                for i in range(min(lanes, channels - e)):
                    input_points(
                        square, i * lanes, lanes * lanes, x, (c + e + i) * H * W * N + n, h, w, H, W, N, 0, nothing
                    )
                at = (e // wide * row + k * lanes) * wide + e % wide
                for point in range(POINTS):
                    transpose(inputs, at + point * plane, wide, square, point * lanes * lanes)
        for g in range(filters):
            for k in range(length // lanes):
                h, w, n, again = places[4 * k], places[4 * k + 1], places[4 * k + 2], places[4 * k + 3]
                gradient_points(gradients, g * step + k * lanes, row, dy, (f + g) * OH * OW * N + n, h, w, OH, OW, N,
                                again, nothing)  # fmt: skip
        for point in range(POINTS):
            for panel in range(panels):
                to, source = (point * panels + panel) * filters * wide, point * plane + panel * row * wide
                if wide == lanes:
                    _multiply_narrow(sums, to, True, gradients, point * row, step, filters, inputs, source,
                                     BLOCK * wide, length)  # fmt: skip
                else:
                    _multiply(sums, to, True, gradients, point * row, step, filters, inputs, source, BLOCK * wide,
                              length)  # fmt: skip
    for panel in range(panels):
        for g in range(filters):
            for half in range(0, wide, lanes):
                at = ((c // wide + panel) * F + f + g) * wide + half
                kernel_tile(dw, at, -(-C // wide) * F * wide, sums, (panel * filters + g) * wide + half,
                            panels * filters * wide)  # fmt: skip


GROUP = 32  # filters, at most, whose products are made before they are transformed
SIZE = 256 // VECTOR  # vectors of a weight gradient at a time: the same memory, whatever their length

_geometry, _part, _int = types.UniTuple(types.int64, 9), types.UniTuple(types.int64, 5), types.int64
_ints = types.int64[::1]

transform_kernels = Kernel(_transform_kernels, lambda T: (T.copy(ndim=4, layout="A"), T, _int, _int))
convolve = Kernel(_convolve, lambda T: (T, T, T, T, T, T, _ints, T, T.dtype, _geometry, _int, _int))
weight_gradient = Kernel(_weight_gradient, lambda T: (T, T, T, T, T, T, T, _ints, T, _geometry, _part, _int, _int))
