"""Winograd's tiles of one vector of images: the transforms F(4x4, 3x3) and F(3x3, 4x4) by sums.

A transform along one axis is some ten sums; a matrix kron(B, B) would take 36 multiplications for each number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpnet.kernels.agnostic.winograd import POINTS, STEP, TILE
from xpnet.kernels.compiled._vectors import Vectors, i64

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


def _read_image(v: Vectors, image: Any, nothing: Any, size: int, given: Sequence[Any]) -> list[list[_Number]]:
    """Read size x size vectors, zeros for what lies outside the image and for elements that are not wanted.

    `given` are row and column of the first, height and width of the image, the numbers of a pixel, and how many of a
    vector's elements are not wanted. Rows outside are read at `nothing`, columns outside are masked. What lies in the
    same place of the next channel is fetched into the cache, but for what tiles side by side share.
    """
    builder, (h, w, height, width, pixel, without) = v.builder, given
    zero, channel = ir.Constant(i64, 0), builder.mul(builder.mul(height, width), pixel)

    def line(first: Any, limit: Any) -> list[tuple[Any, Any, Any]]:
        places = [builder.add(first, ir.Constant(i64, i)) for i in range(size)]
        inside = [builder.icmp_unsigned("<", place, limit) for place in places]
        return [(one, builder.select(one, place, zero), place) for one, place in zip(inside, places, strict=True)]

    unused = v.below(without)
    columns = []
    for inside, nearest, place in line(w, width):
        from_first = builder.mul(builder.sub(nearest, line(w, width)[0][1]), pixel)
        columns.append(
            (inside, builder.select(inside, from_first, zero), v.bits(builder.or_(v.outside(place, width), unused)))
        )
    left = builder.mul(line(w, width)[0][1], pixel)
    tile = []
    for inside, nearest, _ in line(h, height):
        row = builder.gep(image, [builder.add(builder.mul(builder.mul(nearest, width), pixel), left)])
        row = builder.select(inside, row, nothing)
        tile.append([_Number(v, v.without(v.load(builder.gep(row, [at])), mask)) for _, at, mask in columns])
        for _, at, _ in columns[-STEP:]:
            v.prefetch(builder.gep(row, [builder.add(at, channel)]))
    return tile


def _points(transform: Callable[..., list[_Number]], size: int) -> Callable[..., Any]:
    """Return ``tile(points, at, plane, x, start, h, w, height, width, pixel, without, nothing)``.

    Reads size x size vectors from row h and column w on of an image ``x[start :]``, zeros outside it and in the first
    ``without`` elements of each, and writes 6x6 of them, ``plane`` apart; ``nothing`` are zeros for six pixels.
    """

    @intrinsic
    def tile(typing: Any, points: Any, at: Any, plane: Any, x: Any, start: Any, h: Any, w: Any, height: Any,
             width: Any, pixel: Any, without: Any, nothing: Any) -> Any:  # fmt: skip
        kinds = (points, at, plane, x, start, h, w, height, width, pixel, without, nothing)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = Vectors(context, builder, points)
            out, image = v.at(points, given[0], given[1]), v.at(x, given[3], given[4])
            zeros = v.at(nothing, given[11], ir.Constant(i64, 0))
            tile = _read_image(v, image, zeros, size, given[5:11])
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
        channel = builder.mul(builder.mul(height, width), pixel)
        for i, numbers in enumerate(_on_both_axes(_output, tile)):
            r = builder.add(h, ir.Constant(i64, i))
            row = builder.gep(image, [builder.mul(builder.mul(r, width), pixel)])
            with builder.if_then(builder.icmp_signed("<", r, height)):
                for j, number in enumerate(numbers):
                    c = builder.add(w, ir.Constant(i64, j))
                    value = builder.fadd(number.value, added)
                    below = builder.fcmp_ordered("<", value, floor)  # false for NaN, which stays
                    value = builder.select(below, floor, value)
                    place = builder.gep(row, [builder.mul(c, pixel)])
                    with builder.if_then(builder.icmp_signed("<", c, width)):
                        v.store(value, place)
                    v.prefetch(builder.gep(place, [channel]), write=True)
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
