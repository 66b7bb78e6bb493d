"""The innermost loops, written in vectors: what is summed up stays in registers until it is finished.

Numba vectorizes a plain loop too, but keeps sums in memory: each multiplication then comes with a load and a store.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.kernels.compiled._vectors import FEATURES, Vectors, i64

_LARGE = FEATURES.get("avx512f") or "aarch64" in llvmlite.binding.get_process_triple()  # 32 vector registers, not 16
FILTERS = (8, 6, 4, 2, 1) if _LARGE else (6, 4, 2, 1)  # of a tile of the convolution; two vectors of pixels each
# filters of a tile of the weight gradient, and the taps: their products are the sums that fit the registers
GRADIENT_TILES = {8: 3, 6: 3, 4: 3} if _LARGE else {6: 2, 4: 3}
BLOCK = 16  # rows of a matrix, at least, that lie one after another


@functools.cache
def tile_sizes(filters: int) -> np.ndarray:
    """Return how many filters the tiles have that together make up `filters`."""
    sizes: list[int] = []
    while (left := filters - sum(sizes)) > 0:
        fitting = [n for n in FILTERS if n <= left]
        # two filters take as long as four: their sums wait for one another
        sizes.append(next((n for n in fitting if left - n != 2), fitting[0]))
    return np.asarray(sizes)


def convolution_tiles(filters: int) -> Callable[..., Any]:
    """Return ``run(y, at, step, bias, first, relu, x, start, offsets, w, w_at, taps, count)`` for that many filters.

    It makes `count` tiles, one after another in y and x. Each writes two vectors of ``y[at + f*step :]`` for each
    filter f: the sum over k of ``w[w_at + k*filters + f]`` times ``x[start + offsets[k] :]``, plus ``bias[first + f]``,
    and no less than zero with `relu`.
    """

    @intrinsic
    def run(typing: Any, y: Any, at: Any, step: Any, bias: Any, first: Any, relu: Any, x: Any, start: Any,
            offsets: Any, w: Any, w_at: Any, taps: Any, count: Any) -> Any:  # fmt: skip
        kinds = (y, at, step, bias, first, relu, x, start, offsets, w, w_at, taps, count)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, y)
            out, image = v.at(y, given[0], given[1]), v.at(x, given[6], given[7])
            table, weights = v.at(offsets, given[8], ir.Constant(i64, 0)), v.at(w, given[9], given[10])
            biases = v.at(bias, given[3], given[4])
            rows = [builder.mul(given[2], ir.Constant(i64, f)) for f in range(filters)]
            least = v.splat(builder.select(given[5], ir.Constant(v.element, 0), ir.Constant(v.element, -math.inf)))
            with cgutils.for_range(builder, given[12]) as tile:
                place = builder.mul(tile.index, ir.Constant(i64, 2 * v.lanes))
                seen, sums = builder.gep(image, [place]), v.sums(filters, 2)
                with cgutils.for_range(builder, given[11]) as loop:
                    pixels = builder.gep(seen, [builder.load(builder.gep(table, [loop.index]))])
                    both = [v.load(pixels, n) for n in range(2)]
                    row = builder.gep(weights, [builder.mul(loop.index, ir.Constant(i64, filters))])
                    for f in range(filters):
                        weight = v.splat(builder.load(builder.gep(row, [ir.Constant(i64, f)])))
                        for n in range(2):
                            v.multiply_add(weight, both[n], sums[f][n])
                for f in range(filters):
                    added = v.splat(builder.load(builder.gep(biases, [ir.Constant(i64, f)])))
                    target = builder.gep(out, [builder.add(rows[f], place)])
                    for n in range(2):
                        value = builder.fadd(builder.load(sums[f][n]), added)
                        below = builder.fcmp_ordered("<", value, least)  # false for NaN, which stays
                        v.store(builder.select(below, least, value), target, n)
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return run


def gradient_tile(filters: int) -> Callable[..., Any]:
    """Return ``tile(dw, at, taps, dy, dy_at, step, x, start, offsets, k, length)`` for one of `GRADIENT_TILES`.

    Adds to ``dw[at + f*taps + k + t]``, for each filter f and tap t of the tile, the products of
    ``dy[dy_at + f*step :]`` and ``x[start + offsets[k + t] :]``, `length` of them. What lies behind them, up to a whole
    number of vectors, is read but counts for nothing.
    """
    width = GRADIENT_TILES.get(filters, 1)  # 1 where this processor has no such tile

    @intrinsic
    def tile(typing: Any, dw: Any, at: Any, taps: Any, dy: Any, dy_at: Any, step: Any, x: Any, start: Any,
             offsets: Any, k: Any, length: Any) -> Any:  # fmt: skip
        kinds = (dw, at, taps, dy, dy_at, step, x, start, offsets, k, length)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, dw)
            out, gradient = v.at(dw, given[0], builder.add(given[1], given[9])), v.at(dy, given[3], given[4])
            image, table = v.at(x, given[6], given[7]), v.at(offsets, given[8], given[9])
            shifts = [builder.load(builder.gep(table, [ir.Constant(i64, t)])) for t in range(width)]
            pixels = [builder.gep(image, [shift]) for shift in shifts]
            rows = [builder.gep(gradient, [builder.mul(given[5], ir.Constant(i64, f))]) for f in range(filters)]
            sums = v.sums(filters, width)
            whole = builder.sdiv(given[10], ir.Constant(i64, v.lanes))
            rest = builder.srem(given[10], ir.Constant(i64, v.lanes))

            def add(vector: Any, valid: Any = None) -> None:
                place = builder.mul(vector, ir.Constant(i64, v.lanes))
                seen = [v.load(builder.gep(pixel, [place])) for pixel in pixels]
                if valid is not None:
                    seen = [builder.select(valid, one, v.zero) for one in seen]
                for f in range(filters):
                    slope = v.load(builder.gep(rows[f], [place]))
                    slope = slope if valid is None else builder.select(valid, slope, v.zero)
                    for t in range(width):
                        v.multiply_add(slope, seen[t], sums[f][t])

            with cgutils.for_range(builder, whole) as loop:
                add(loop.index)
            with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(i64, 0))):
                add(whole, v.below(rest))
            totals = v.totals([one for row in sums for one in row])
            for f in range(filters):
                row = builder.gep(out, [builder.mul(given[2], ir.Constant(i64, f))])
                for t in range(width):
                    target = builder.gep(row, [ir.Constant(i64, t)])
                    builder.store(builder.fadd(builder.load(target), totals[f * width + t]), target)
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return tile


def product_tile(rows: int, vectors: int = 2) -> Callable[..., Any]:
    """Return ``tile(out, at, add, a, a_at, step, b, b_at, leap, count)`` for that many rows of a matrix a.

    Writes some vectors of each row to ``out[at + vectors*lanes*f :]``: the sum over k of ``a[a_at + f*step + k]``
    times row k of b, on top of what is there with `add`. `BLOCK` rows of b, of so many vectors each, lie one after
    another, and the next of them ``leap`` after the first.
    """

    @intrinsic
    def tile(typing: Any, out: Any, at: Any, add: Any, a: Any, a_at: Any, step: Any, b: Any, b_at: Any, leap: Any,
             count: Any) -> Any:  # fmt: skip
        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, out)
            target = v.at(out, given[0], given[1])
            left, right = v.at(a, given[3], given[4]), v.at(b, given[6], given[7])
            lines = [builder.gep(left, [builder.mul(given[5], ir.Constant(i64, f))]) for f in range(rows)]
            sums = v.sums(rows, vectors)
            with builder.if_then(given[2]):
                for f in range(rows):
                    for n in range(vectors):
                        builder.store(v.load(target, vectors * f + n), sums[f][n])
            block, zero = ir.Constant(i64, BLOCK), ir.Constant(i64, 0)
            with cgutils.for_range_slice(builder, zero, given[9], block) as (first, _):
                start = builder.gep(right, [builder.mul(builder.sdiv(first, block), given[8])])
                left_over = builder.sub(given[9], first)
                length = builder.select(builder.icmp_signed("<", left_over, block), left_over, block)
                heads = [builder.gep(line, [first]) for line in lines]
                with cgutils.for_range(builder, length) as loop:
                    seen = [
                        v.load(builder.gep(start, [builder.mul(loop.index, ir.Constant(i64, vectors * v.lanes))]), n)
                        for n in range(vectors)
                    ]
                    for f in range(rows):
                        factor = v.splat(builder.load(builder.gep(heads[f], [loop.index])))
                        for n in range(vectors):
                            v.multiply_add(factor, seen[n], sums[f][n])
            for f in range(rows):
                for n in range(vectors):
                    v.store(builder.load(sums[f][n]), target, vectors * f + n)
            return context.get_dummy_value()

        return types.void(out, at, add, a, a_at, step, b, b_at, leap, count), emit

    return tile
