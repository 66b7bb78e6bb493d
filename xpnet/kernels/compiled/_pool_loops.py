"""Pooling, compiled: of 2x2 pixels side by side, and of any other windows."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.kernels.compiled._compile import Kernel
from xpnet.kernels.compiled._runs import geometry_type, lists_type, run_of, seen
from xpnet.kernels.compiled._vectors import Vectors, clear, each, i64


def _larger(v: Vectors, a: Any, b: Any) -> Any:
    """Return the larger of each pair, NaN where either is NaN."""
    either = v.builder.select(v.builder.fcmp_unordered(">", b, a), b, a)
    return v.builder.select(v.builder.fcmp_unordered("uno", a, a), a, either)


@intrinsic
def _maxima(typing: Any, y: Any, at: Any, x: Any, upper: Any, lower: Any, count: Any) -> Any:
    """``y[at :]``, `count` of them: the largest of x from `upper`, `upper` + count, `lower` and `lower` + count on."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def write(v: Vectors, place: Any) -> None:
            starts = (given[3], builder.add(given[3], given[5]), given[4], builder.add(given[4], given[5]))
            a, b, c, d = (v.load(v.at(x, given[2], builder.add(start, place))) for start in starts)
            v.store(_larger(v, _larger(v, a, b), _larger(v, c, d)), v.at(y, given[0], builder.add(given[1], place)))

        each(context, builder, y, given[5], write)
        return context.get_dummy_value()

    return types.void(y, at, x, upper, lower, count), emit


@intrinsic
def _slopes(typing: Any, dx: Any, x: Any, upper: Any, lower: Any, dy: Any, y: Any, at: Any, count: Any) -> Any:
    """Of four pixels of dx, placed as in `_maxima`, the first whose x is y gets dy, the others dy * 0."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def write(v: Vectors, place: Any) -> None:
            slope, top = (v.load(v.at(kind, value, builder.add(given[6], place))) for kind, value in
                          ((dy, given[4]), (y, given[5])))  # fmt: skip
            nothing, found = builder.fmul(slope, v.zero), None  # NaN where dy is infinite, as elsewhere
            for start in (given[2], builder.add(given[2], given[7]), given[3], builder.add(given[3], given[7])):
                index = builder.add(start, place)
                hit = builder.fcmp_ordered("==", v.load(v.at(x, given[1], index)), top)
                first = hit if found is None else builder.and_(hit, builder.not_(found))
                found = hit if found is None else builder.or_(found, hit)
                v.store(builder.select(first, slope, nothing), v.at(dx, given[0], index))

        each(context, builder, dx, given[7], write)
        return context.get_dummy_value()

    return types.void(dx, x, upper, lower, dy, y, at, count), emit


def _max_pool(x: Any, y: Any, begin: int, end: int, shape: Any) -> None:
    """Write channels `begin` to `end` of y (C, OH, OW, N), the maxima of 2x2 pixels of x (C, H, W, N)."""
    H, W, OH, OW, N = shape
    for c in range(begin, end):
        for oh in range(OH):
            for ow in range(OW):
                upper = ((c * H + 2 * oh) * W + 2 * ow) * N
                _maxima(y, ((c * OH + oh) * OW + ow) * N, x, upper, upper + W * N, N)


def _average_pool(x: Any, y: Any, begin: int, end: int, shape: Any) -> None:
    """Write channels `begin` to `end` of y (C, OH, OW, N), the means of 2x2 pixels of x (C, H, W, N)."""
    H, W, OH, OW, N = shape
    quarter = x.dtype.type(0.25)
    for c in range(begin, end):
        for oh in range(OH):
            for ow in range(OW):
                upper = ((c * H + 2 * oh) * W + 2 * ow) * N
                above, below = x[upper : upper + 2 * N], x[upper + W * N : upper + (W + 2) * N]
                at = ((c * OH + oh) * OW + ow) * N
                made = y[at : at + N]
                for n in range(N):
                    made[n] = (above[n] + above[N + n] + below[n] + below[N + n]) * quarter


def _max_pool_gradient(dx: Any, dy: Any, x: Any, y: Any, begin: int, end: int, shape: Any) -> None:
    """Write channels of dx: the first pixel of a window equal to its maximum gets its gradient; zero elsewhere."""
    H, W, OH, OW, N = shape
    for c in range(begin, end):
        for oh in range(OH):
            for ow in range(OW):
                upper = ((c * H + 2 * oh) * W + 2 * ow) * N
                _slopes(dx, x, upper, upper + W * N, dy, y, ((c * OH + oh) * OW + ow) * N, N)
            for h in range(2 * oh, 2 * oh + 2):
                clear(dx, ((c * H + h) * W + 2 * OW) * N, (W - 2 * OW) * N)
        clear(dx, (c * H + 2 * OH) * W * N, (H - 2 * OH) * W * N)


def _average_pool_gradient(dx: Any, dy: Any, begin: int, end: int, shape: Any) -> None:
    """Write channels `begin` to `end` of dx: the four pixels of a window share its gradient; zero elsewhere."""
    H, W, OH, OW, N = shape
    quarter = dx.dtype.type(0.25)
    for c in range(begin, end):
        for oh in range(OH):
            for ow in range(OW):
                at, upper = ((c * OH + oh) * OW + ow) * N, ((c * H + 2 * oh) * W + 2 * ow) * N
                given = dy[at : at + N]
                above, below = dx[upper : upper + 2 * N], dx[upper + W * N : upper + (W + 2) * N]
                for n in range(N):
                    share = given[n] * quarter
                    above[n], above[N + n], below[n], below[N + n] = share, share, share, share
            for h in range(2 * oh, 2 * oh + 2):
                clear(dx, ((c * H + h) * W + 2 * OW) * N, (W - 2 * OW) * N)
        clear(dx, (c * H + 2 * OH) * W * N, (H - 2 * OH) * W * N)


@intrinsic
def _largest(typing: Any, y: Any, at: Any, x: Any, start: Any, places: Any, begin: Any, end: Any, pixels: Any,
             length: Any, steps: Any) -> Any:  # fmt: skip
    """``y[at + n]`` is the largest of ``x[start + places[t] + n]``, t from `begin` to `end`; without one -infinity.

    Of so many pixels of `length` elements, which lie `steps` apart, first in y and then in x.
    """
    kinds = (y, at, x, start, places, begin, end, pixels, length, steps)

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        moves = [builder.extract_value(given[9], n) for n in range(2)]
        with cgutils.for_range(builder, given[7]) as pixel:
            to = builder.add(given[1], builder.mul(pixel.index, moves[0]))
            image = builder.add(given[3], builder.mul(pixel.index, moves[1]))

            def write(v: Vectors, place: Any) -> None:
                best, own = cgutils.alloca_once(builder, v.type), builder.add(image, place)
                builder.store(v.splat(ir.Constant(v.element, -np.inf)), best)
                with cgutils.for_range_slice(builder, given[5], given[6], ir.Constant(i64, 1)) as (t, _):
                    seen_at = builder.add(own, builder.load(v.at(places, given[4], t)))
                    builder.store(_larger(v, builder.load(best), v.load(v.at(x, given[2], seen_at))), best)
                v.store(builder.load(best), v.at(y, given[0], builder.add(to, place)))

            each(context, builder, y, given[8], write)
        return context.get_dummy_value()

    return types.void(*kinds), emit


@intrinsic
def _give(typing: Any, dx: Any, x: Any, start: Any, dy: Any, y: Any, at: Any, places: Any, here: Any, rows: Any,
          first: Any, last: Any, pixels: Any, length: Any, steps: Any) -> Any:  # fmt: skip
    """Add ``dy[at + n]`` to dx where x is ``y[at + n]``: at the first place, row by row, that a window sees.

    The places are those of columns `first` to `last` of the kernel, of so many `rows` each; all others get dy * 0.
    """
    kinds = (dx, x, start, dy, y, at, places, here, rows, first, last, pixels, length, steps)

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        moves = [builder.extract_value(given[13], n) for n in range(2)]
        with cgutils.for_range(builder, given[11]) as pixel:
            window = builder.add(given[5], builder.mul(pixel.index, moves[0]))
            image = builder.add(given[2], builder.mul(pixel.index, moves[1]))

            def write(v: Vectors, place: Any) -> None:
                slope, top = (v.load(v.at(kind, value, builder.add(window, place))) for kind, value in
                              ((dy, given[3]), (y, given[4])))  # fmt: skip
                nothing = builder.fmul(slope, v.zero)  # NaN where dy is infinite, as elsewhere
                mask = ir.VectorType(ir.IntType(1), v.lanes)
                found, own = cgutils.alloca_once(builder, mask), builder.add(image, place)
                builder.store(ir.Constant(mask, None), found)
                columns = given[9], given[10], ir.Constant(i64, 1)
                with (
                    cgutils.for_range(builder, given[8]) as row,
                    cgutils.for_range_slice(builder, *columns) as (column, _),
                ):
                    tap = builder.add(builder.mul(column, given[8]), builder.add(row.index, given[7]))
                    index = builder.add(own, builder.load(v.at(places, given[6], tap)))
                    hit = builder.fcmp_ordered("==", v.load(v.at(x, given[1], index)), top)
                    before = builder.load(found)
                    share = builder.select(builder.and_(hit, builder.not_(before)), slope, nothing)
                    builder.store(builder.or_(before, hit), found)
                    target = v.at(dx, given[0], index)
                    v.store(builder.fadd(v.load(target), share), target)

            each(context, builder, dx, given[12], write)
        return context.get_dummy_value()

    return types.void(*kinds), emit


def _windows(x: Any, y: Any, lists: Any, geometry: Any, begin: int, end: int) -> None:
    """Write channels `begin` to `end` of y (C, OH, OW, N), the maxima of windows on x (C, H, W, N)."""
    places, _, counts, shifts = lists
    _, H, W, N, _, OH, OW, _, KW, stride = geometry
    room = places.size // counts.size
    for c in range(begin, end):
        for oh in range(OH):
            here, rows, at, ow = oh * room, counts[oh] // KW, (c * OH + oh) * OW * N, 0
            while ow < OW:
                first, last, stop = seen(shifts, 0, KW, ow, stride, W, OW)
                pixels, length, steps = run_of(stop - ow, N, stride, 1)
                _largest(y, at + ow * N, x, c * H * W * N + ow * stride * N, places, here + first * rows,
                         here + last * rows, pixels, length, steps)  # fmt: skip
                ow = stop


def _windows_gradient(dx: Any, dy: Any, x: Any, y: Any, lists: Any, geometry: Any, begin: int, end: int) -> None:
    """Write channels `begin` to `end` of dx: the first pixel of a window equal to its maximum gets its gradient."""
    places, _, counts, shifts = lists
    _, H, W, N, _, OH, OW, _, KW, stride = geometry
    room = places.size // counts.size
    for c in range(begin, end):
        channel = c * H * W * N
        clear(dx, channel, H * W * N)
        for oh in range(OH):
            here, rows, at, ow = oh * room, counts[oh] // KW, (c * OH + oh) * OW * N, 0
            while ow < OW:
                first, last, stop = seen(shifts, 0, KW, ow, stride, W, OW)
                pixels, length, steps = run_of(stop - ow, N, stride, 1)
                _give(dx, x, channel + ow * stride * N, dy, y, at + ow * N, places, here, rows, first, last, pixels,
                      length, steps)  # fmt: skip
                ow = stop


_int, _shape = types.int64, types.UniTuple(types.int64, 5)

max_pool = Kernel(_max_pool, lambda T: (T, T, _int, _int, _shape))
average_pool = Kernel(_average_pool, lambda T: (T, T, _int, _int, _shape))
average_pool_gradient = Kernel(_average_pool_gradient, lambda T: (T, T, _int, _int, _shape))
max_pool_gradient = Kernel(_max_pool_gradient, lambda T: (T, T, T, T, _int, _int, _shape))
windows = Kernel(_windows, lambda T: (T, T, lists_type, geometry_type, _int, _int))
windows_gradient = Kernel(_windows_gradient, lambda T: (T, T, T, T, lists_type, geometry_type, _int, _int))
