"""Convolution over a ring of input rows, and its weight gradient, compiled.

The input rows that an output row reads are copied side by side into memory that stays in the cache, with their
padding, and each new output row replaces the oldest of them. A step of the stride apart lie next to one another
there, so what a tap reads for a whole row of the output is one run of memory.
"""

from typing import Any

from numba import types

from xpnet.kernels.compiled._compile import Kernel, inline
from xpnet.kernels.compiled._tiles import FILTERS, GRADIENT_TILES, convolution_tiles, gradient_tile
from xpnet.kernels.compiled._vectors import VECTOR, clear, copy

_T8, _T6, _T4, _T2, _T1 = (convolution_tiles(n) for n in (8, 6, 4, 2, 1))
_G8, _G6, _G4 = (gradient_tile(n) for n in (8, 6, 4))
_TAPS8, _TAPS6, _TAPS4 = (GRADIENT_TILES.get(n, 1) for n in (8, 6, 4))
_MOST = FILTERS[0]
LINE = 64  # bytes of a line of the cache: a vector as long, not at the start of one, takes two loads
SPAN = 4096  # taps of neighbouring tiles of pixels that the same filters go through: whole lines of y are written then


@inline
def _load_row(ring: Any, slot: int, x: Any, ih: int, geometry: Any, block: Any) -> None:
    """Copy what the block reads of row `ih`, of all channels, into a slot of the ring; zeros for padding."""
    C, H, W, N, _, _, _, _, KW, _, stride, _, left, _, dilation = geometry
    n0, images, _, _, first, columns, row, _ = block
    width = (columns - 1) * stride + dilation * (KW - 1) + 1
    phase = -(-width // stride)
    start = first * stride - left  # the column of x that the first of the ring is
    for c in range(C):
        at, line = (slot * C + c) * row, (c * H + ih) * W
        if not 0 <= ih < H:
            clear(ring, at, phase * stride * images)
        elif stride == 1 and images == N:  # whole lines
            begin, end = min(max(-start, 0), width), max(min(W - start, width), 0)
            clear(ring, at, begin * N)
            copy(ring, at + begin * N, x, (line + start + begin) * N, (end - begin) * N)
            clear(ring, at + end * N, (width - end) * N)
        else:
            for p in range(width):
                target, w = at + ((p % stride) * phase + p // stride) * images, start + p
                if 0 <= w < W:
                    copy(ring, target, x, (line + w) * N + n0, images)
                else:
                    clear(ring, target, images)


@inline
def _find_offsets(offsets: Any, oh: int, lowest: int, highest: int, geometry: Any, block: Any) -> None:
    """Write where in the ring the taps (i, c, j) of kernel rows `lowest` to `highest` begin to read for row `oh`."""
    C, _, _, _, _, _, _, _, KW, step, stride, _, _, down, dilation = geometry
    _, images, _, _, _, columns, row, slots = block
    phase = -(-((columns - 1) * stride + dilation * (KW - 1) + 1) // stride)
    for i in range(lowest, highest):
        slot = (oh * step + i * down) % slots * C
        for j in range(KW):
            at = ((j * dilation) % stride * phase + (j * dilation) // stride) * images
            for c in range(C):
                offsets[((i - lowest) * C + c) * KW + j] = (slot + c) * row + at


@inline
def _advance(ring: Any, loaded: int, oh: int, x: Any, geometry: Any, block: Any) -> int:
    """Load the input rows of output row `oh` that are not there yet; return the first that is not loaded then.

    Rows are counted from the first of the padding.
    """
    KH, step, top, down = geometry[7], geometry[9], geometry[11], geometry[13]
    slots = block[7]
    last = oh * step + (KH - 1) * down
    for r in range(max(loaded, oh * step), last + 1):
        _load_row(ring, r % slots, x, r - top, geometry, block)
    return last + 1


@inline
def _tiles(size: int, y: Any, at: int, step: int, b: Any, f: int, relu: bool, ring: Any, start: int, offsets: Any,
           w: Any, w_at: int, taps: int, count: int) -> None:  # fmt: skip
    if size == 8:
        _T8(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps, count)
    elif size == 6:
        _T6(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps, count)
    elif size == 4:
        _T4(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps, count)
    elif size == 2:
        _T2(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps, count)
    else:
        _T1(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps, count)


@inline
def _rows_inside(oh: int, geometry: Any) -> tuple[int, int]:
    """Return the first kernel row that reads no padding for output row `oh`, and the first after those."""
    H, KH, step, top, down = geometry[1], geometry[7], geometry[9], geometry[11], geometry[13]
    above, below = top - oh * step, H + top - oh * step
    lowest = min(max(-(-above // down), 0), KH)
    return lowest, max(min(-(-below // down), KH), lowest)


def _convolve(x: Any, w: Any, b: Any, y: Any, sizes: Any, ring: Any, offsets: Any, relu: bool, geometry: Any,
              block: Any) -> None:  # fmt: skip
    """Write a block of y (F, OH, OW, N); `w` is as `_pack` writes it."""
    C, N, OH, OW, KW = geometry[0], geometry[3], geometry[5], geometry[6], geometry[8]
    n0, images, begin, end, first, columns, _, _ = block
    width, loaded, step = 2 * VECTOR // x.itemsize, 0, OH * OW * N
    piece = columns * images if images == N else images  # of a row of the block in y that is contiguous
    span = max(4, SPAN // offsets.size) * width
    tail = ring[ring.size - _MOST * width :]  # a tile that reaches beyond is made here
    for oh in range(begin, end):
        loaded = _advance(ring, loaded, oh, x, geometry, block)
        lowest, highest = _rows_inside(oh, geometry)
        _find_offsets(offsets, oh, lowest, highest, geometry, block)
        skipped, taps = lowest * C * KW, (highest - lowest) * C * KW
        for column in range(columns * images // piece):
            place, start = (oh * OW + first + column) * N + n0, column * piece
            for near in range(0, piece, span):
                count = (min(near + span, piece) - near) // width
                rest = near + count * width
                left = min(near + span, piece) - rest
                f = 0
                for size in sizes:
                    at, w_at = f * step + place, f * offsets.size + skipped * size
                    _tiles(size, y, at + near, step, b, f, relu, ring, start + near, offsets, w, w_at, taps, count)
                    if left > 0:
                        _tiles(size, tail, 0, width, b, f, relu, ring, start + rest, offsets, w, w_at, taps, 1)
                        for g in range(size):
                            copy(y, at + g * step + rest, tail, g * width, left)
                    f += size


def _pack(W: Any, sizes: Any, taps: Any, out: Any) -> None:
    """Write W (F, C, KH, KW) as the weights (KH, C, KW, filters) of one tile after another."""
    C, KH, KW = taps
    K, at, f = C * KH * KW, 0, 0
    for size in sizes:
        for i in range(KH):
            for c in range(C):
                for j in range(KW):
                    for g in range(f, f + size):
                        out[at] = W[g * K + (c * KH + i) * KW + j]
                        at += 1
        f += size


def _weight_gradient(x: Any, dy: Any, dw: Any, db: Any, ring: Any, rows: Any, offsets: Any, size: int, geometry: Any,
                     block: Any) -> None:  # fmt: skip
    """Add to dw (filters, taps), whole tiles of both, what a block of dy (F, OH, OW, N) gives, and to db its sums.

    The taps are in the order (KH, C, KW). If db has no elements, it is not wanted.
    """
    N, F, OH, OW, KH = geometry[3], geometry[4], geometry[5], geometry[6], geometry[7]
    n0, images, begin, end, first, columns, _, _ = block
    taps, loaded, length = offsets.size, 0, columns * images
    filters = dw.size // taps
    step = rows.size // filters
    vectors = -(-length * x.itemsize // VECTOR)  # of a row, the last of which reads what follows it
    clear(rows, 0, rows.size)
    for oh in range(begin, end):
        loaded = _advance(ring, loaded, oh, x, geometry, block)
        _find_offsets(offsets, oh, 0, KH, geometry, block)
        at = (oh * OW + first) * N + n0
        reach = (F - 1) * OH * OW * N + at + vectors * VECTOR // x.itemsize
        direct = images == N and filters == F and reach <= dy.size and VECTOR < LINE
        if not direct:
            piece = length if images == N else images
            for f in range(F):
                for ow in range(length // piece):
                    copy(rows, f * step + ow * piece, dy, f * OH * OW * N + at + ow * N, piece)
        given, start, apart = (dy, at, OH * OW * N) if direct else (rows, 0, step)
        for f in range(db.size):
            row, total = given[start + f * apart : start + f * apart + length], x.dtype.type(0)
            for i in range(length):  # LLVM takes no vectors for the elements of a slice without their indices
                total += row[i]
            db[f] += total
        _add_row(dw, given, start, apart, ring, offsets, size, length)


@inline
def _add_row(dw: Any, dy: Any, at: int, step: int, ring: Any, offsets: Any, size: int, length: int) -> None:
    """Add to dw what one row of dy gives, whose filters lie `step` apart."""
    taps = offsets.size
    for q in range(0, length, CHUNK):
        part = min(CHUNK, length - q)
        for f in range(0, dw.size // taps, size):
            if size == 8:
                for k in range(0, taps, _TAPS8):
                    _G8(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)
            elif size == 6:
                for k in range(0, taps, _TAPS6):
                    _G6(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)
            else:
                for k in range(0, taps, _TAPS4):
                    _G4(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)


CHUNK = 1024  # elements of a row of dy: those of a tile's filters stay in the first-level cache

_ints, _geometry, _block = types.int64[::1], types.UniTuple(types.int64, 15), types.UniTuple(types.int64, 8)

convolve = Kernel(_convolve, lambda T: (T, T, T, T, _ints, T, _ints, types.boolean, _geometry, _block))
pack = Kernel(_pack, lambda T: (T, _ints, types.UniTuple(types.int64, 3), T))
weight_gradient = Kernel(_weight_gradient, lambda T: (T, T, T, T, T, T, _ints, types.int64, _geometry, _block))
