"""Winograd's tiles of one vector of images: the transforms F(4x4, 3x3) and F(3x3, 4x4) by sums, and their products.

A transform along one axis is some ten sums; a matrix kron(B, B) would take 36 multiplications for each number.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.kernels.agnostic.winograd import POINTS, STEP, TILE
from xpnet.kernels.compiled._vectors import Vectors, i64

BLOCK = 16  # rows of a matrix, at least, that lie one after another
FUSED = ("contract",)  # a product and a sum may become one instruction


class _Number:
    """A vector in the code that is being made, with the arithmetic that the formulas need."""

    def __init__(self, v: Vectors, value: Any) -> None:
        self.v, self.value = v, value

    def __add__(self, other: _Number) -> _Number:
        return _Number(self.v, self.v.builder.fadd(self.value, other.value, flags=FUSED))

    def __sub__(self, other: _Number) -> _Number:
        return _Number(self.v, self.v.builder.fsub(self.value, other.value, flags=FUSED))

    def __rmul__(self, factor: float) -> _Number:
        constant = ir.Constant(self.v.type, [float(factor)] * self.v.lanes)
        return _Number(self.v, self.v.builder.fmul(constant, self.value, flags=FUSED))


def _input(d: Sequence[_Number]) -> list[_Number]:
    """B^T d, in the order of `agnostic.winograd`."""
    even, odd, near, step = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], d[3] - d[1]
    ends = 4 * (d[0] - d[2]) + (d[4] - d[2]), 4 * (d[1] - d[3]) + (d[5] - d[3])
    return [ends[0], even + odd, even - odd, near + 2 * step, near - 2 * step, ends[1]]


def _output(m: Sequence[_Number]) -> list[_Number]:
    """A^T m."""
    sums, differences = (m[1] + m[2], m[3] + m[4]), (m[1] - m[2], m[3] - m[4])
    return [
        m[0] + sums[0] + sums[1],
        differences[0] + 2 * differences[1],
        sums[0] + 4 * sums[1],
        differences[0] + 8 * differences[1] + m[5],
    ]


def _gradient(d: Sequence[_Number]) -> list[_Number]:
    """A d."""
    even, odd, far, wide = d[0] + d[2], d[1] + d[3], d[0] + 4 * d[2], 2 * (d[1] + 4 * d[3])
    return [d[0], even + odd, even - odd, far + wide, far - wide, d[3]]


def _kernel(g: Sequence[_Number]) -> list[_Number]:
    """G g."""
    even, far = 1 / 6 * (g[0] + g[2]), 1 / 24 * g[0] + 1 / 6 * g[2]
    odd, near = 1 / 6 * g[1], 1 / 12 * g[1]
    return [1 / 4 * g[0], -1 * (even + odd), odd - even, far + near, far - near, g[2]]


def _kernel_gradient(m: Sequence[_Number]) -> list[_Number]:
    """G^T m."""
    near, far = m[1] + m[2], m[3] + m[4]
    return [
        1 / 4 * m[0] - 1 / 6 * near + 1 / 24 * far,
        1 / 6 * (m[2] - m[1]) + 1 / 12 * (m[3] - m[4]),
        1 / 6 * (far - near) + m[5],
    ]


def _on_both_axes(transform: Callable[..., list[_Number]], tile: list[list[_Number]]) -> list[list[_Number]]:
    """Transform the rows of a tile, then its columns."""
    rows = [transform(row) for row in tile]
    columns = [transform(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _read_points(v: Vectors, points: Any, plane: Any) -> list[list[_Number]]:
    """Read 6x6 vectors, ``plane`` apart."""
    places = [v.builder.gep(points, [v.builder.mul(plane, ir.Constant(i64, k))]) for k in range(POINTS)]
    return [[_Number(v, v.load(place)) for place in places[TILE * i : TILE * (i + 1)]] for i in range(TILE)]


def _write_points(v: Vectors, tile: list[list[_Number]], points: Any, plane: Any) -> None:
    """Write the vectors of a tile, ``plane`` apart."""
    for k, number in enumerate(itertools.chain.from_iterable(tile)):
        v.store(number.value, v.builder.gep(points, [v.builder.mul(plane, ir.Constant(i64, k))]))


def _inside(builder: Any, size: int, place: Sequence[Any]) -> Any:
    """Tell whether size x size pixels lie in an image; `place` is row and column, height and width of the image."""
    h, w, height, width = place
    rest = [builder.sub(limit, ir.Constant(i64, size - 1)) for limit in (height, width)]
    near = [builder.icmp_signed("<", first, limit) for first, limit in zip((h, w), rest, strict=True)]
    far = [builder.icmp_signed(">=", first, ir.Constant(i64, 0)) for first in (h, w)]
    return functools.reduce(builder.and_, near + far)


def _whole(v: Vectors, image: Any, size: int, place: Sequence[Any], pixel: Any) -> list[list[_Number]]:
    """Read size x size vectors that lie in an image."""
    h, w, _, width = place
    builder = v.builder
    first = builder.gep(image, [builder.mul(builder.add(builder.mul(h, width), w), pixel)])
    row = builder.mul(width, pixel)
    lines = [builder.gep(first, [builder.mul(row, ir.Constant(i64, i))]) for i in range(size)]
    columns = [builder.mul(pixel, ir.Constant(i64, j)) for j in range(size)]
    return [[_Number(v, v.load(builder.gep(line, [column]))) for column in columns] for line in lines]


def _partial(v: Vectors, image: Any, size: int, place: Sequence[Any], pixel: Any, unused: Any) -> list[list[_Number]]:
    """Read size x size vectors, zeros for those outside the image and for elements that are `unused`."""
    h, w, height, width = place
    builder = v.builder

    def line(first: Any, limit: Any, step: Any) -> list[tuple[Any, Any]]:
        places = [builder.add(first, ir.Constant(i64, i)) for i in range(size)]
        insides = [builder.icmp_unsigned("<", place, limit) for place in places]
        nearest = [builder.select(one, place, ir.Constant(i64, 0)) for one, place in zip(insides, places, strict=True)]
        return [(builder.mul(near, step), v.outside(place, limit)) for near, place in zip(nearest, places, strict=True)]

    columns = line(w, width, pixel)
    tile = []
    for at, outside in line(h, height, builder.mul(width, pixel)):
        row, hidden = builder.gep(image, [at]), builder.or_(outside, unused)
        tile.append(
            [
                _Number(v, builder.select(builder.or_(hidden, none), v.zero, v.load(builder.gep(row, [column]))))
                for column, none in columns
            ]
        )
    return tile


def _points(transform: Callable[..., list[_Number]], size: int) -> Callable[..., Any]:
    """Return ``tile(points, at, plane, x, start, h, w, height, width, pixel, without)``.

    Reads size x size vectors from row h and column w on of an image ``x[start :]``, zeros outside it and in the first
    ``without`` elements of each, and writes 6x6 of them, ``plane`` apart.
    """

    @intrinsic
    def tile(typing: Any, points: Any, at: Any, plane: Any, x: Any, start: Any, h: Any, w: Any, height: Any,
             width: Any, pixel: Any, without: Any) -> Any:  # fmt: skip
        kinds = (points, at, plane, x, start, h, w, height, width, pixel, without)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, points)
            out, image = v.at(points, given[0], given[1]), v.at(x, given[3], given[4])
            inside = builder.and_(
                _inside(builder, size, given[5:9]), builder.icmp_signed("==", given[10], ir.Constant(i64, 0))
            )
            with builder.if_else(inside) as (whole, partial):
                with whole:
                    tile = _whole(v, image, size, given[5:9], given[9])
                    _write_points(v, _on_both_axes(transform, tile), out, given[2])
                with partial:
                    tile = _partial(v, image, size, given[5:9], given[9], v.below(given[10]))
                    _write_points(v, _on_both_axes(transform, tile), out, given[2])
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return tile


input_points = _points(_input, TILE)
gradient_points = _points(_gradient, STEP)
kernel_points = _points(_kernel, 3)


@intrinsic
def output_tile(typing: Any, y: Any, start: Any, h: Any, w: Any, height: Any, width: Any, pixel: Any, points: Any,
                at: Any, plane: Any, bias: Any, least: Any) -> Any:  # fmt: skip
    """Write 4x4 vectors of an image ``y[start :]`` as far as they lie in it: plus `bias`, and no less than `least`."""
    kinds = (y, start, h, w, height, width, pixel, points, at, plane, bias, least)

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = Vectors(context, builder, y)
        image, products = v.at(y, given[0], given[1]), v.at(points, given[7], given[8])
        added, floor = v.splat(given[10]), v.splat(given[11])
        tile = _read_points(v, products, given[9])
        h, w, height, width, pixel = given[2:7]
        for i, numbers in enumerate(_on_both_axes(_output, tile)):
            r = builder.add(h, ir.Constant(i64, i))
            row = builder.gep(image, [builder.mul(builder.mul(r, width), pixel)])
            with builder.if_then(builder.icmp_signed("<", r, height)):
                for j, number in enumerate(numbers):
                    c = builder.add(w, ir.Constant(i64, j))
                    value = builder.fadd(number.value, added)
                    below = builder.fcmp_ordered("<", value, floor)  # false for NaN, which stays
                    value = builder.select(below, floor, value)
                    with builder.if_then(builder.icmp_signed("<", c, width)):
                        v.store(value, builder.gep(row, [builder.mul(c, pixel)]))
        return context.get_dummy_value()

    return types.void(*kinds), emit


@intrinsic
def kernel_tile(typing: Any, kernels: Any, at: Any, step: Any, points: Any, start: Any, plane: Any) -> Any:
    """Write 3x3 vectors, ``step`` apart, of 6x6 points, ``plane`` apart."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = Vectors(context, builder, kernels)
        out, sums = v.at(kernels, given[0], given[1]), v.at(points, given[3], given[4])
        _write_points(v, _on_both_axes(_kernel_gradient, _read_points(v, sums, given[5])), out, given[2])
        return context.get_dummy_value()

    return types.void(kernels, at, step, points, start, plane), emit


def product_tile(rows: int) -> Callable[..., Any]:
    """Return ``tile(out, at, add, a, a_at, step, b, b_at, leap, count)`` for that many rows of a matrix a.

    Writes two vectors of each row to ``out[at + 2*lanes*f :]``: the sum over k of ``a[a_at + f*step + k]`` times
    row k of b, on top of what is there with `add`. `BLOCK` rows of b, of two vectors each, lie one after another,
    and the next of them ``leap`` after the first.
    """

    @intrinsic
    def tile(typing: Any, out: Any, at: Any, add: Any, a: Any, a_at: Any, step: Any, b: Any, b_at: Any, leap: Any,
             count: Any) -> Any:  # fmt: skip
        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, out)
            target = v.at(out, given[0], given[1])
            left, right = v.at(a, given[3], given[4]), v.at(b, given[6], given[7])
            lines = [builder.gep(left, [builder.mul(given[5], ir.Constant(i64, f))]) for f in range(rows)]
            sums = v.sums(rows, 2)
            with builder.if_then(given[2]):
                for f in range(rows):
                    for n in range(2):
                        builder.store(v.load(target, 2 * f + n), sums[f][n])
            block, zero = ir.Constant(i64, BLOCK), ir.Constant(i64, 0)
            with cgutils.for_range_slice(builder, zero, given[9], block) as (first, _):
                start = builder.gep(right, [builder.mul(builder.sdiv(first, block), given[8])])
                left_over = builder.sub(given[9], first)
                length = builder.select(builder.icmp_signed("<", left_over, block), left_over, block)
                heads = [builder.gep(line, [first]) for line in lines]
                with cgutils.for_range(builder, length) as loop:
                    both = [
                        v.load(builder.gep(start, [builder.mul(loop.index, ir.Constant(i64, 2 * v.lanes))]), n)
                        for n in range(2)
                    ]
                    for f in range(rows):
                        factor = v.splat(builder.load(builder.gep(heads[f], [loop.index])))
                        for n in range(2):
                            v.multiply_add(factor, both[n], sums[f][n])
            for f in range(rows):
                for n in range(2):
                    v.store(builder.load(sums[f][n]), target, 2 * f + n)
            return context.get_dummy_value()

        return types.void(out, at, add, a, a_at, step, b, b_at, leap, count), emit

    return tile


@intrinsic
def transpose(typing: Any, target: Any, at: Any, step: Any, source: Any, start: Any) -> Any:
    """Write the columns of a square of vectors, which lie one after another in `source`, `step` apart."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = Vectors(context, builder, target)
        out, square, lanes = v.at(target, given[0], given[1]), v.at(source, given[3], given[4]), v.lanes
        kind = ir.VectorType(ir.IntType(32), lanes)
        rows = [v.load(square, n) for n in range(lanes)]
        width = lanes // 2
        while width:  # squares of half the size change places, down to single numbers
            low = [n if n & width == 0 else lanes + n - width for n in range(lanes)]
            high = [n + width if n & width == 0 else lanes + n for n in range(lanes)]
            for first in (n for n in range(lanes) if n & width == 0):
                pair = rows[first], rows[first + width]
                rows[first], rows[first + width] = (
                    builder.shuffle_vector(*pair, ir.Constant(kind, mask)) for mask in (low, high)
                )
            width //= 2
        for n, row in enumerate(rows):
            v.store(row, builder.gep(out, [builder.mul(given[2], ir.Constant(i64, n))]))
        return context.get_dummy_value()

    return types.void(target, at, step, source, start), emit
