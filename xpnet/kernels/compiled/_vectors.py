"""Vectors of the processor in functions compiled by Numba, and copying by the C library."""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FEATURES = llvmlite.binding.get_host_cpu_features()
VECTOR = 64 if FEATURES.get("avx512f") else 32 if FEATURES.get("avx2") else 16  # bytes

i64 = ir.IntType(64)


class Vectors:
    """What the tiles emit, for the element type of a Numba array type, in vectors of so many elements."""

    def __init__(self, context: Any, builder: Any, array: Any, lanes: int = 0) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_value_type(array.dtype)
        self.itemsize = array.dtype.bitwidth // 8
        self.lanes = lanes or VECTOR // self.itemsize
        self.type = ir.VectorType(self.element, self.lanes)
        self.name = f"v{self.lanes}f{8 * self.itemsize}"
        self.zero = ir.Constant(self.type, None)

    def at(self, array: Any, value: Any, index: Any) -> Any:
        """Return the address of an element of an array."""
        data = self.context.make_array(array)(self.context, self.builder, value).data
        return self.builder.gep(data, [index])

    def pointer(self, address: Any, vectors: int = 0) -> Any:
        """Return the address of the n-th vector after an address."""
        moved = self.builder.gep(address, [ir.Constant(i64, vectors * self.lanes)])
        return self.builder.bitcast(moved, self.type.as_pointer())

    def load(self, address: Any, vectors: int = 0) -> Any:
        return self.builder.load(self.pointer(address, vectors), align=self.itemsize)

    def store(self, value: Any, address: Any, vectors: int = 0) -> None:
        self.builder.store(value, self.pointer(address, vectors), align=self.itemsize)

    def prefetch(self, address: Any, write: bool = False) -> None:
        """Have the line of the cache at an address brought to the second level; it may lie outside of all memory."""
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        settings = [ir.Constant(number, setting) for setting in (int(write), 2, 1)]
        self.builder.call(function, [self.builder.bitcast(address, byte), *settings])

    def splat(self, scalar: Any) -> Any:
        """Return a vector of one number."""
        undefined, index = ir.Constant(self.type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, scalar, index)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def _counts(self, count: Any) -> Any:
        """Return a vector of one integer."""
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(kind, None)
        count = self.builder.trunc(count, ir.IntType(32))
        counts = self.builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(counts, undefined, zeros)

    def below(self, count: Any) -> Any:
        """Return a mask of the first `count` elements of a vector."""
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self._counts(count))

    def outside(self, place: Any, limit: Any) -> Any:
        """Return a mask of all elements if a place is negative or not below the limit, else of none."""
        return self.builder.icmp_unsigned(">=", self._counts(place), self._counts(limit))

    def bits(self, mask: Any) -> Any:
        """Return a mask as integers that are all ones where it holds."""
        return self.builder.sext(mask, ir.VectorType(ir.IntType(8 * self.itemsize), self.lanes))

    def without(self, value: Any, bits: Any) -> Any:
        """Return zeros instead of the elements where all bits are set."""
        kept = self.builder.and_(self.builder.bitcast(value, bits.type), self.builder.not_(bits))
        return self.builder.bitcast(kept, self.type)

    def multiply_add(self, a: Any, b: Any, sums: Any) -> None:
        """sums += a * b, fused where the processor can."""
        kind = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.{self.name}")
        self.builder.store(self.builder.call(function, [a, b, self.builder.load(sums)]), sums)

    def totals(self, sums: list[Any]) -> list[Any]:
        """Return the sum of the elements of each vector: halves are added up, of two vectors at once."""
        if len(sums) > self.lanes:
            return self.totals(sums[: self.lanes]) + self.totals(sums[self.lanes :])
        count = 1 << (len(sums) - 1).bit_length()
        vectors = [self.builder.load(one) for one in sums] + [self.zero] * (count - len(sums))
        size = self.lanes  # of the part of a vector that belongs to one sum
        while size > 1:
            size //= 2
            starts = range(0, self.lanes, 2 * size)
            if len(vectors) > 1:
                pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
                starts = range(0, 2 * self.lanes, 2 * size)
            else:
                pairs = [(vectors[0], vectors[0])]
            low = [start + n for start in starts for n in range(size)]
            vectors = [
                self.builder.fadd(self._shuffled(*pair, low), self._shuffled(*pair, [n + size for n in low]))
                for pair in pairs
            ]
        return [self.builder.extract_element(vectors[0], ir.Constant(ir.IntType(32), n)) for n in range(len(sums))]

    def _shuffled(self, a: Any, b: Any, places: list[int]) -> Any:
        """Return a vector of elements of a and then b; those for which there is no place do not matter."""
        mask = places + [0] * (self.lanes - len(places))
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), mask))

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
        v = Vectors(context, builder, target)
        cgutils.raw_memcpy(
            builder, v.at(target, given[0], given[1]), v.at(source, given[2], given[3]), given[4], v.itemsize, align=1
        )
        return context.get_dummy_value()

    return types.void(target, at, source, start, count), emit


@intrinsic
def clear(typing: Any, target: Any, at: Any, count: Any) -> Any:
    """``target[at : at + count] = 0``, by the C library."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        v = Vectors(context, builder, target)
        size = builder.mul(given[2], ir.Constant(i64, v.itemsize))
        cgutils.memset(builder, v.at(target, given[0], given[1]), size, 0)
        return context.get_dummy_value()

    return types.void(target, at, count), emit


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


def each(context: Any, builder: Any, array: Any, count: Any, emit: Any) -> None:
    """Emit ``emit(vectors, place)`` for place 0, ... of `count` elements: by vectors, and what is left one by one."""
    v, one = Vectors(context, builder, array), Vectors(context, builder, array, lanes=1)
    whole = builder.mul(builder.sdiv(count, ir.Constant(i64, v.lanes)), ir.Constant(i64, v.lanes))
    for vectors, begin, end in ((v, ir.Constant(i64, 0), whole), (one, whole, count)):
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(i64, vectors.lanes)) as (place, _):
            emit(vectors, place)
