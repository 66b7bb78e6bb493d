"""Depthwise convolution, its weight gradient and the gradient of its input, compiled.

Nothing is copied: each tap of the kernel is a shift of the image in memory, and what the taps add up to, for a run of
pixels that see the same of them, is finished in registers. All pixels of a row but those at its ends are one run. The
taps of a row are listed by columns of the kernel, so that what pixels at the ends see is a part of the list.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.kernels.compiled._compile import Kernel
from xpnet.kernels.compiled._runs import geometry_type, lists_type, run_of, seen
from xpnet.kernels.compiled._vectors import Vectors, i64


@intrinsic
def _combine(typing: Any, y: Any, at: Any, x: Any, start: Any, places: Any, here: Any, factors: Any, begin: Any,
             end: Any, bias: Any, least: Any, pixels: Any, length: Any, steps: Any) -> Any:  # fmt: skip
    """``y[at + n] = bias + sum over t of factors[t] * x[start + places[here + t] + n]``, t from `begin` to `end`.

    But no less than `least`; of so many pixels of `length` elements, which lie `steps` apart, first in y and then in x.
    """
    kinds = (y, at, x, start, places, here, factors, begin, end, bias, least, pixels, length, steps)

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        zero = ir.Constant(i64, 0)
        v, one = Vectors(context, builder, y), Vectors(context, builder, y, lanes=1)
        table, weights = v.at(places, given[4], given[5]), v.at(factors, given[6], zero)
        moves = [builder.extract_value(given[13], n) for n in range(2)]
        with cgutils.for_range(builder, given[11]) as pixel:
            out = v.at(y, given[0], builder.add(given[1], builder.mul(pixel.index, moves[0])))
            image = v.at(x, given[2], builder.add(given[3], builder.mul(pixel.index, moves[1])))
            done = zero
            for vectors, together in ((v, SIDE_BY_SIDE), (v, 1), (one, 1)):
                step = ir.Constant(i64, vectors.lanes * together)
                whole = builder.mul(builder.sdiv(builder.sub(given[12], done), step), step)
                upto = builder.add(done, whole)
                with cgutils.for_range_slice(builder, done, upto, step) as (place, _):
                    (sums,) = vectors.sums(1, together)
                    for total in sums:
                        builder.store(vectors.splat(given[9]), total)
                    seen, target = builder.gep(image, [place]), builder.gep(out, [place])
                    with cgutils.for_range_slice(builder, given[7], given[8], ir.Constant(i64, 1)) as (t, _):
                        shifted = builder.gep(seen, [builder.load(builder.gep(table, [t]))])
                        factor = vectors.splat(builder.load(builder.gep(weights, [t])))
                        for n, total in enumerate(sums):
                            vectors.multiply_add(factor, vectors.load(shifted, n), total)
                    floor = vectors.splat(given[10])
                    for n, total in enumerate(sums):
                        value = builder.load(total)
                        below = builder.fcmp_ordered("<", value, floor)  # false for NaN, which stays
                        vectors.store(builder.select(below, floor, value), target, n)
                done = upto
        return context.get_dummy_value()

    return types.void(*kinds), emit


def _dots(taps: int) -> Callable[..., Any]:
    """Return ``tile(dw, at, names, dy, dy_at, x, start, places, k, pixels, length, steps)`` for that many taps.

    Adds to ``dw[at + names[t]]``, for each tap t of them, from the k-th on, the products of ``dy[dy_at :]`` and
    ``x[start + places[t] :]``, of so many pixels of `length` elements, which lie `steps` apart, first in dy, then in x.
    """

    @intrinsic
    def tile(typing: Any, dw: Any, at: Any, names: Any, dy: Any, dy_at: Any, x: Any, start: Any, places: Any, k: Any,
             pixels: Any, length: Any, steps: Any) -> Any:  # fmt: skip
        kinds = (dw, at, names, dy, dy_at, x, start, places, k, pixels, length, steps)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            zero = ir.Constant(i64, 0)
            v, one = Vectors(context, builder, dw), Vectors(context, builder, dw, lanes=1)
            out, table, called = (
                v.at(dw, given[0], given[1]),
                v.at(places, given[7], given[8]),
                v.at(names, given[2], given[8]),
            )
            nth = [[ir.Constant(i64, t)] for t in range(taps)]
            shifts = [builder.load(builder.gep(table, t)) for t in nth]
            moves = [builder.extract_value(given[11], n) for n in range(2)]
            kept = [(vectors, together, vectors.sums(taps, together)) for vectors, together in ((v, 2), (one, 1))]
            with cgutils.for_range(builder, given[9]) as pixel:
                gradient = v.at(dy, given[3], builder.add(given[4], builder.mul(pixel.index, moves[0])))
                image = v.at(x, given[5], builder.add(given[6], builder.mul(pixel.index, moves[1])))
                images, done = [builder.gep(image, [shift]) for shift in shifts], zero
                for vectors, together, sums in kept:
                    step = ir.Constant(i64, vectors.lanes * together)
                    whole = builder.mul(builder.sdiv(builder.sub(given[10], done), step), step)
                    upto = builder.add(done, whole)
                    with cgutils.for_range_slice(builder, done, upto, step) as (place, _):
                        slopes = builder.gep(gradient, [place])
                        both = [vectors.load(slopes, n) for n in range(together)]
                        for t in range(taps):
                            seen = builder.gep(images[t], [place])
                            for n in range(together):
                                vectors.multiply_add(both[n], vectors.load(seen, n), sums[t][n])
                    done = upto
            totals = [vectors.totals([total for row in sums for total in row]) for vectors, _, sums in kept]
            for t in range(taps):
                target = builder.gep(out, [builder.load(builder.gep(called, nth[t]))])
                total = builder.fadd(builder.fadd(totals[0][2 * t], totals[0][2 * t + 1]), totals[1][t])
                builder.store(builder.fadd(builder.load(target), total), target)
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return tile


_D3, _D1 = _dots(3), _dots(1)


def _convolve(x: Any, w: Any, b: Any, y: Any, least: Any, lists: Any, factors: Any, geometry: Any, begin: int,
              end: int) -> None:  # fmt: skip
    """Write the filters `begin` to `end` of y (F, OH, OW, N), no less than `least`."""
    places, names, counts, shifts = lists
    C, H, W, N, F, OH, OW, KH, KW, stride = geometry
    taps, room = KH * KW, places.size // counts.size
    for f in range(begin, end):
        channel = f // (F // C) * H * W * N
        for oh in range(OH):
            here, rows, at, ow = oh * room, counts[oh] // KW, (f * OH + oh) * OW * N, 0
            for t in range(counts[oh]):
                factors[t] = w[f * taps + names[here + t]]
            while ow < OW:
                first, last, stop = seen(shifts, 0, KW, ow, stride, W, OW)
                pixels, length, steps = run_of(stop - ow, N, stride, 1)
                _combine(y, at + ow * N, x, channel + ow * stride * N, places, here, factors, first * rows,
                         last * rows, b[f], least, pixels, length, steps)  # fmt: skip
                ow = stop


def _weight_gradient(x: Any, dy: Any, dw: Any, lists: Any, geometry: Any, begin: int, end: int) -> None:
    """Add to the filters `begin` to `end` of dw (F, KH, KW) what dy (F, OH, OW, N) gives."""
    places, names, counts, shifts = lists
    C, H, W, N, F, OH, OW, KH, KW, stride = geometry
    taps, room = KH * KW, places.size // counts.size
    for f in range(begin, end):
        channel = f // (F // C) * H * W * N
        for oh in range(OH):
            here, rows, at, ow = oh * room, counts[oh] // KW, (f * OH + oh) * OW * N, 0
            while ow < OW:
                first, last, stop = seen(shifts, 0, KW, ow, stride, W, OW)
                pixels, length, steps = run_of(stop - ow, N, stride, 1)
                start, t, upto = channel + ow * stride * N, here + first * rows, here + last * rows
                while t < upto:
                    if t + 3 <= upto:
                        _D3(dw, f * taps, names, dy, at + ow * N, x, start, places, t, pixels, length, steps)
                        t += 3
                    else:
                        _D1(dw, f * taps, names, dy, at + ow * N, x, start, places, t, pixels, length, steps)
                        t += 1
                ow = stop


def _input_gradient(dy: Any, w: Any, dx: Any, lists: Any, groups: Any, factors: Any, geometry: Any, begin: int,
                    end: int) -> None:  # fmt: skip
    """Write the channels `begin` to `end` of dx (C, H, W, N): each pixel gathers from the outputs that read it.

    Pixels a step of the stride apart are read by the same taps, and come one after another.
    """
    places, names, counts, shifts = lists
    C, H, W, N, F, OH, OW, KH, KW, stride = geometry
    taps, room = F // C * KH * KW, places.size // counts.size
    zero, nothing = dx.dtype.type(0.0), dx.dtype.type(-np.inf)
    for c in range(begin, end):
        for row in range(H * stride):
            h, phase, here = row // stride, row % stride, row * room
            rows, size = counts[row] // max(groups[phase], 1), -(-(W - phase) // stride)
            for t in range(counts[row]):
                factors[t] = w[c * taps + names[here + t]]
            at, start, k = ((c * H + h) * W + phase) * N, c * (F // C) * OH * OW * N, 0
            while k < size:
                first, last, stop = seen(shifts, phase * KW, groups[phase], k, 1, OW, size)
                pixels, length, steps = run_of(stop - k, N, 1, stride)
                _combine(dx, at + k * stride * N, dy, start + k * N, places, here, factors, first * rows, last * rows,
                         zero, nothing, pixels, length, steps)  # fmt: skip
                k = stop


SIDE_BY_SIDE = 4  # vectors: a sum waits four cycles for the one before it

_ints, _int = types.int64[::1], types.int64

convolve = Kernel(_convolve, lambda T: (T, T, T, T, T.dtype, lists_type, T, geometry_type, _int, _int))
weight_gradient = Kernel(_weight_gradient, lambda T: (T, T, T, lists_type, geometry_type, _int, _int))
input_gradient = Kernel(_input_gradient, lambda T: (T, T, T, lists_type, _ints, T, geometry_type, _int, _int))
