"""The innermost loops, written in vectors: what is summed up stays in registers until it is finished.

Numba vectorizes a plain loop too, but keeps sums in memory: each multiplication then comes with a load and a store.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = llvmlite.binding.get_host_cpu_features()
_LARGE = _FEATURES.get("avx512f") or "aarch64" in llvmlite.binding.get_process_triple()  # 32 vector registers, not 16
VECTOR = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16  # bytes
FILTERS = (8, 6, 4, 2, 1) if _LARGE else (6, 4, 2, 1)  # of a tile of the convolution; two vectors of pixels each
GRADIENT_FILTERS = (8, 6, 4) if _LARGE else (4,)  # of a tile of the weight gradient
TAPS = 3  # of a tile of the weight gradient

_i64 = ir.IntType(64)


class _Vectors:
    """What the tiles emit, for the element type of a Numba array type."""

    def __init__(self, context: Any, builder: Any, array: Any) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_value_type(array.dtype)
        self.itemsize = array.dtype.bitwidth // 8
        self.lanes = VECTOR // self.itemsize
        self.type = ir.VectorType(self.element, self.lanes)
        self.name = f"v{self.lanes}f{8 * self.itemsize}"
        self.zero = ir.Constant(self.type, None)

    def at(self, array: Any, value: Any, index: Any) -> Any:
        """Return the address of an element of an array."""
        data = self.context.make_array(array)(self.context, self.builder, value).data
        return self.builder.gep(data, [index])

    def pointer(self, address: Any, vectors: int = 0) -> Any:
        """Return the address of the n-th vector after an address."""
        moved = self.builder.gep(address, [ir.Constant(_i64, vectors * self.lanes)])
        return self.builder.bitcast(moved, self.type.as_pointer())

    def load(self, address: Any, vectors: int = 0) -> Any:
        return self.builder.load(self.pointer(address, vectors), align=self.itemsize)

    def store(self, value: Any, address: Any, vectors: int = 0) -> None:
        self.builder.store(value, self.pointer(address, vectors), align=self.itemsize)

    def splat(self, scalar: Any) -> Any:
        """Return a vector of one number."""
        undefined, index = ir.Constant(self.type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, scalar, index)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def below(self, count: Any) -> Any:
        """Return a mask of the first `count` elements of a vector."""
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(kind, None)
        count = self.builder.trunc(count, ir.IntType(32))
        counts = self.builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        counts = self.builder.shuffle_vector(counts, undefined, zeros)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), counts)

    def multiply_add(self, a: Any, b: Any, sums: Any) -> None:
        """sums += a * b, fused where the processor can."""
        kind = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.{self.name}")
        self.builder.store(self.builder.call(function, [a, b, self.builder.load(sums)]), sums)

    def total(self, sums: Any) -> Any:
        """Return the sum of a vector's elements, added in pairs."""
        kind = ir.FunctionType(self.element, [self.element, self.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.vector.reduce.fadd.{self.name}")
        zero = ir.Constant(self.element, 0.0)
        return self.builder.call(function, [zero, self.builder.load(sums)], fastmath=("reassoc",))

    def sums(self, *shape: int) -> list[list[Any]]:
        """Return accumulators, which LLVM keeps in registers, set to zero."""
        made = [[cgutils.alloca_once(self.builder, self.type) for _ in range(shape[1])] for _ in range(shape[0])]
        for row in made:
            for one in row:
                self.builder.store(self.zero, one)
        return made


@intrinsic
def copy(typing: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """``target[at : at + count] = source[start : start + count]``, by the C library."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = _Vectors(context, builder, target)
        cgutils.raw_memcpy(
            builder, v.at(target, given[0], given[1]), v.at(source, given[2], given[3]), given[4], v.itemsize, align=1
        )
        return context.get_dummy_value()

    return types.void(target, at, source, start, count), emit


@intrinsic
def clear(typing: Any, target: Any, at: Any, count: Any) -> Any:
    """``target[at : at + count] = 0``, by the C library."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = _Vectors(context, builder, target)
        size = builder.mul(given[2], ir.Constant(_i64, v.itemsize))
        cgutils.memset(builder, v.at(target, given[0], given[1]), size, 0)
        return context.get_dummy_value()

    return types.void(target, at, count), emit


def convolution_tile(filters: int) -> Callable[..., Any]:
    """Return ``tile(y, at, step, bias, first, relu, x, start, offsets, w, w_at, taps)`` for that many filters.

    Writes two vectors of ``y[at + f*step :]`` for each filter f: the sum over k of ``w[w_at + k*filters + f]`` times
    ``x[start + offsets[k] :]``, plus ``bias[first + f]``, and no less than zero with `relu`.
    """

    @intrinsic
    def tile(typing: Any, y: Any, at: Any, step: Any, bias: Any, first: Any, relu: Any, x: Any, start: Any,
             offsets: Any, w: Any, w_at: Any, taps: Any) -> Any:  # fmt: skip
        kinds = (y, at, step, bias, first, relu, x, start, offsets, w, w_at, taps)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = _Vectors(context, builder, y)
            out, image = v.at(y, given[0], given[1]), v.at(x, given[6], given[7])
            table, weights = v.at(offsets, given[8], ir.Constant(_i64, 0)), v.at(w, given[9], given[10])
            biases = v.at(bias, given[3], given[4])
            sums = v.sums(filters, 2)
            with cgutils.for_range(builder, given[11]) as loop:
                pixels = builder.gep(image, [builder.load(builder.gep(table, [loop.index]))])
                both = [v.load(pixels, n) for n in range(2)]
                row = builder.gep(weights, [builder.mul(loop.index, ir.Constant(_i64, filters))])
                for f in range(filters):
                    weight = v.splat(builder.load(builder.gep(row, [ir.Constant(_i64, f)])))
                    for n in range(2):
                        v.multiply_add(weight, both[n], sums[f][n])
            for f in range(filters):
                added = v.splat(builder.load(builder.gep(biases, [ir.Constant(_i64, f)])))
                target = builder.gep(out, [builder.mul(given[2], ir.Constant(_i64, f))])
                for n in range(2):
                    value = builder.fadd(builder.load(sums[f][n]), added)
                    negative = builder.fcmp_ordered("<", value, v.zero)  # false for NaN, which stays
                    clipped = builder.select(negative, v.zero, value)
                    v.store(builder.select(given[5], clipped, value), target, n)
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return tile


def gradient_tile(filters: int) -> Callable[..., Any]:
    """Return ``tile(dw, at, taps, dy, dy_at, step, x, start, offsets, k, length)`` for that many filters.

    Adds to ``dw[at + f*taps + k + t]``, for each filter f and `TAPS` taps t, the products of ``dy[dy_at + f*step :]``
    and ``x[start + offsets[k + t] :]``, `length` of them. What lies behind them, up to a whole number of vectors, is
    read but counts for nothing.
    """

    @intrinsic
    def tile(typing: Any, dw: Any, at: Any, taps: Any, dy: Any, dy_at: Any, step: Any, x: Any, start: Any,
             offsets: Any, k: Any, length: Any) -> Any:  # fmt: skip
        kinds = (dw, at, taps, dy, dy_at, step, x, start, offsets, k, length)

        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            v = _Vectors(context, builder, dw)
            out, gradient = v.at(dw, given[0], builder.add(given[1], given[9])), v.at(dy, given[3], given[4])
            image, table = v.at(x, given[6], given[7]), v.at(offsets, given[8], given[9])
            shifts = [builder.load(builder.gep(table, [ir.Constant(_i64, t)])) for t in range(TAPS)]
            pixels = [builder.gep(image, [shift]) for shift in shifts]
            rows = [builder.gep(gradient, [builder.mul(given[5], ir.Constant(_i64, f))]) for f in range(filters)]
            sums = v.sums(filters, TAPS)
            whole = builder.sdiv(given[10], ir.Constant(_i64, v.lanes))
            rest = builder.srem(given[10], ir.Constant(_i64, v.lanes))

            def add(vector: Any, valid: Any = None) -> None:
                place = builder.mul(vector, ir.Constant(_i64, v.lanes))
                seen = [v.load(builder.gep(pixel, [place])) for pixel in pixels]
                if valid is not None:
                    seen = [builder.select(valid, one, v.zero) for one in seen]
                for f in range(filters):
                    slope = v.load(builder.gep(rows[f], [place]))
                    slope = slope if valid is None else builder.select(valid, slope, v.zero)
                    for t in range(TAPS):
                        v.multiply_add(slope, seen[t], sums[f][t])

            with cgutils.for_range(builder, whole) as loop:
                add(loop.index)
            with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(_i64, 0))):
                add(whole, v.below(rest))
            for f in range(filters):
                row = builder.gep(out, [builder.mul(given[2], ir.Constant(_i64, f))])
                for t in range(TAPS):
                    target = builder.gep(row, [ir.Constant(_i64, t)])
                    builder.store(builder.fadd(builder.load(target), v.total(sums[f][t])), target)
            return context.get_dummy_value()

        return types.void(*kinds), emit

    return tile
