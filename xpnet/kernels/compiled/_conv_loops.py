"""Convolution over a ring of input rows, and its weight gradient, compiled.

The input rows that an output row reads are copied side by side into memory that stays in the cache, with their
padding, and each new output row replaces the oldest of them. A step of the stride apart lie next to one another
there, so what a tap reads for a whole row of the output is one run of memory.
"""

from typing import Any

from numba import types

from xpnet.kernels.compiled._compile import Kernel, inline
from xpnet.kernels.compiled._tiles import FILTERS, TAPS, convolution_tile, gradient_tile
from xpnet.kernels.compiled._vectors import VECTOR, clear, copy

_T8, _T6, _T4, _T2, _T1 = (convolution_tile(n) for n in (8, 6, 4, 2, 1))
_G8, _G6, _G4 = (gradient_tile(n) for n in (8, 6, 4))
_MOST = FILTERS[0]
SPAN = 4096  # taps of neighbouring tiles of pixels that the same filters go through: whole lines of y are written then


@inline
def _load_row(ring: Any, slot: int, x: Any, ih: int, geometry: Any, block: Any) -> None:
    """Copy what the block reads of row `ih`, of all channels, into a slot of the ring; zeros for padding."""
    C, H, W, N, _, _, _, _, KW, _, stride, _, left, _, dilation = geometry
    n0, images, _, _, first, columns, row, _ = block
    width = (columns - 1) * stride + dilation * (KW - 1) + 1
    phase = -(-width // stride)
    for c in range(C):
        at = (slot * C + c) * row
        for p in range(width):
            target, w = at + ((p % stride) * phase + p // stride) * images, first * stride + p - left
            if 0 <= ih < H and 0 <= w < W:
                copy(ring, target, x, ((c * H + ih) * W + w) * N + n0, images)
            else:
                clear(ring, target, images)


@inline
def _find_offsets(offsets: Any, oh: int, geometry: Any, block: Any) -> None:
    """Write where in the ring each tap (c, i, j) begins to read for output row `oh`."""
    C, _, _, _, _, _, _, KH, KW, step, stride, _, _, down, dilation = geometry
    _, images, _, _, _, columns, row, slots = block
    phase = -(-((columns - 1) * stride + dilation * (KW - 1) + 1) // stride)
    k = 0
    for c in range(C):
        for i in range(KH):
            at = ((oh * step + i * down) % slots * C + c) * row
            for j in range(KW):
                offsets[k] = at + ((j * dilation) % stride * phase + (j * dilation) // stride) * images
                k += 1


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
def _tile(size: int, y: Any, at: int, step: int, b: Any, f: int, relu: bool, ring: Any, start: int, offsets: Any,
          w: Any, w_at: int, taps: int) -> None:  # fmt: skip
    if size == 8:
        _T8(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)
    elif size == 6:
        _T6(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)
    elif size == 4:
        _T4(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)
    elif size == 2:
        _T2(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)
    else:
        _T1(y, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)


def _convolve(x: Any, w: Any, b: Any, y: Any, sizes: Any, ring: Any, offsets: Any, relu: bool, geometry: Any,
              block: Any) -> None:  # fmt: skip
    """Write a block of y (F, OH, OW, N); `w` holds tile after tile (taps, filters)."""
    N, OH, OW = geometry[3], geometry[5], geometry[6]
    n0, images, begin, end, first, columns, _, _ = block
    taps, width, loaded = offsets.size, 2 * VECTOR // x.itemsize, 0
    piece = columns * images if images == N else images  # of a row of the block in y that is contiguous
    span = max(4, SPAN // taps) * width
    tail = ring[ring.size - _MOST * width :]  # a tile that reaches beyond is made here
    for oh in range(begin, end):
        loaded = _advance(ring, loaded, oh, x, geometry, block)
        _find_offsets(offsets, oh, geometry, block)
        for column in range(columns * images // piece):
            place = (oh * OW + first + column) * N + n0
            for near in range(0, piece, span):
                f = w_at = 0
                for size in sizes:
                    for q in range(near, min(near + span, piece), width):
                        target, start = f * OH * OW * N + place + q, column * piece + q
                        fits = q + width <= piece
                        out, at, step = (y, target, OH * OW * N) if fits else (tail, 0, width)
                        _tile(size, out, at, step, b, f, relu, ring, start, offsets, w, w_at, taps)
                        if not fits:
                            for g in range(size):
                                copy(y, target + g * OH * OW * N, tail, g * width, piece - q)
                    f += size
                    w_at += size * taps


def _weight_gradient(x: Any, dy: Any, dw: Any, ring: Any, rows: Any, offsets: Any, size: int, geometry: Any,
                     block: Any) -> None:  # fmt: skip
    """Add to dw (filters, taps), whole tiles of both, what a block of dy (F, OH, OW, N) gives."""
    N, F, OH, OW = geometry[3], geometry[4], geometry[5], geometry[6]
    n0, images, begin, end, first, columns, _, _ = block
    taps, loaded, length = offsets.size, 0, columns * images
    filters = dw.size // taps
    step = rows.size // filters
    vectors = -(-length * x.itemsize // VECTOR)  # of a row, the last of which reads what follows it
    clear(rows, 0, rows.size)
    for oh in range(begin, end):
        loaded = _advance(ring, loaded, oh, x, geometry, block)
        _find_offsets(offsets, oh, geometry, block)
        at = (oh * OW + first) * N + n0
        reach = (F - 1) * OH * OW * N + at + vectors * VECTOR // x.itemsize
        direct = images == N and filters == F and reach <= dy.size
        if not direct:
            for f in range(F):
                for ow in range(columns):
                    copy(rows, f * step + ow * images, dy, f * OH * OW * N + at + ow * N, images)
        given, start, apart = (dy, at, OH * OW * N) if direct else (rows, 0, step)
        _add_row(dw, given, start, apart, ring, offsets, size, length)


@inline
def _add_row(dw: Any, dy: Any, at: int, step: int, ring: Any, offsets: Any, size: int, length: int) -> None:
    """Add to dw what one row of dy gives, whose filters lie `step` apart."""
    taps = offsets.size
    for q in range(0, length, CHUNK):
        part = min(CHUNK, length - q)
        for f in range(0, dw.size // taps, size):
            for k in range(0, taps, TAPS):
                if size == 8:
                    _G8(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)
                elif size == 6:
                    _G6(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)
                else:
                    _G4(dw, f * taps, taps, dy, at + f * step + q, step, ring, q, offsets, k, part)


CHUNK = 1024  # elements of a row of dy: those of a tile's filters stay in the first-level cache

_ints, _geometry, _block = types.int64[::1], types.UniTuple(types.int64, 15), types.UniTuple(types.int64, 8)

convolve = Kernel(_convolve, lambda T: (T, T, T, T, _ints, T, _ints, types.boolean, _geometry, _block))
weight_gradient = Kernel(_weight_gradient, lambda T: (T, T, T, T, T, _ints, types.int64, _geometry, _block))
