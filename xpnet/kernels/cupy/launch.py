"""Compiling the CUDA sources on first use, and launching them."""

from __future__ import annotations

import functools
import math
from typing import Any

import cupy
import numpy as np

from xpnet.backend import Array, wide_dtype
from xpnet.errors import ArrayMismatchError
from xpnet.kernels.cuda import OPTIONS, code, is_wide
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first

__all__ = [
    "THREADS",
    "address",
    "check_device",
    "contiguous",
    "each_element",
    "innermost",
    "kernel",
    "launch",
    "launch_grid",
    "launch_sums",
    "packed",
    "power_of_two",
    "unpacked",
    "window_argument",
]

THREADS = 256  # of a block
PART = 16384  # terms of a sum that one block takes: what is left then is a second launch
MOST_PARTS = 1024

# struct Window of xpnet/kernels/cuda/common.cuh
WINDOW = np.dtype(
    [
        (name, np.int32)
        for name in (
            *("H", "W", "OH", "OW", "KH", "KW", "stride_h", "stride_w"),
            *("top", "bottom", "left", "right", "dilation_h", "dilation_w"),
        )
    ]
)


@functools.cache
def kernel(source: str, name: str, dtype: Any, wide: bool) -> Any:
    """Return a kernel for arrays of one float type; CuPy compiles it at its first launch and keeps it on disk."""
    return cupy.RawKernel(code(source, dtype.name, wide), name, OPTIONS)


def address(a: Array) -> int:
    """Return where an array lies on the device."""
    return a.data.ptr


@functools.cache
def _has_several_gpus() -> bool:
    return cupy.cuda.runtime.getDeviceCount() > 1


def check_device(operation: str, *arguments: Any) -> None:
    """Refuse arrays of another GPU than the one this thread works on.

    CuPy launches there and makes new arrays there, whatever it is given, so following the arrays at a launch alone
    would not do.
    """
    if not _has_several_gpus():
        return
    current = cupy.cuda.runtime.getDevice()
    for a in arguments:
        if isinstance(a, cupy.ndarray) and a.data.device_id != current:
            there = a.data.device_id
            raise ArrayMismatchError(
                operation,
                f"an array is on GPU {there}, but this thread works on GPU {current}; let it work there, by "
                f"backend.use('cupy:{there}') or cupy.cuda.Device({there}).use(), or move the array with "
                "backend.asarray",
            )


def launch_grid(
    source: str, name: str, dtype: Any, wide: bool, grid: tuple[int, ...], threads: int, *arguments: Any
) -> None:
    """Run a kernel for arrays of one float type on a grid of blocks of so many threads: how all are launched.

    Arguments are arrays, None for a null pointer, int, float, bool, or NumPy values that are passed as they are.
    """
    check_device(name, *arguments)
    kernel(source, name, dtype, wide)(grid, (threads,), arguments)


def launch(source: str, name: str, like: Any, size: int, *arguments: Any) -> None:
    """Run a kernel with one thread for each of `size` elements, on arrays of the float type of `like`."""
    wide = is_wide(max(size, like.size))
    launch_grid(source, name, like.dtype, wide, (-(-size // THREADS),), THREADS, *arguments)


def each_element(
    source: str, name: str, *arrays: Array, numbers: tuple[float, ...] = (), overwrite: bool = False
) -> Array:
    """Return what a kernel makes of arrays of one shape, element by element; with `overwrite`, where the first is.

    Its arguments are the arrays, what it makes, the numbers, and how many elements there are.
    """
    given = [packed(a) for a in arrays]
    made = given[0] if overwrite else cupy.empty_like(given[0])
    if made.size:
        launch(source, name, made, made.size, *given, made, *numbers, made.size)
    return unpacked(made)


def launch_sums(
    source: str,
    name: str,
    out: Array,
    length: int,
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    wide: bool,
    dtype: Any = None,
) -> None:
    """Run a kernel that writes each element of `out` as the sum of `length` terms, cut into parts of a block each.

    Its arguments are those `before`, the sums of the parts and `out`, one of which is null, those `after`, and the
    terms of a part and the number of parts. Where there are several, a second kernel adds them up. The kernel is that
    for arrays of a `dtype`, by default that of `out`.
    """
    part = max(PART, -(-length // MOST_PARTS))
    parts = -(-length // part)
    partial = cupy.empty((out.size, parts), wide_dtype(cupy, out.dtype)) if parts > 1 else None
    arguments = (*before, partial, out if partial is None else None, *after, part, parts)
    launch_grid(
        source, name, dtype or out.dtype, wide, (out.size * parts,), power_of_two(min(part, length)), *arguments
    )
    if partial is not None:
        numbers = (out.dtype, wide, (out.size,), power_of_two(parts))
        launch_grid("activation", "sum_parts", *numbers, partial, out, parts)


@functools.lru_cache(maxsize=1024)
def window_argument(window: Window) -> np.ndarray:
    """Return a window as kernels take it: a structure, passed by value."""
    (top, bottom), (left, right) = window.padding
    values = (*window.input, *window.output, *window.kernel, *window.stride, top, bottom, left, right, *window.dilation)
    return np.array(values, dtype=WINDOW)


def contiguous(a: Array | None, dtype: Any) -> Array | None:
    """Return an optional array of some numbers in C order and of a type, as kernels take it."""
    return None if a is None else cupy.ascontiguousarray(a, dtype=dtype)


def innermost(x: Array) -> Array:
    """Return `x` (N, C, ...) indexed (C, ..., N) and contiguous, as the kernels read images.

    `batch_innermost` is not enough: of an array that lies as (N, C, ...) it may be a view that has to be strided.
    """
    return cupy.ascontiguousarray(x.transpose(*range(1, x.ndim), 0))


def packed(x: Array) -> Array:
    """Return images as `innermost` does, any other array in C order: how element-wise kernels take them."""
    return innermost(x) if x.ndim == 4 else cupy.ascontiguousarray(x).reshape(x.shape)  # 0-d stays 0-d


def unpacked(y: Array) -> Array:
    """Return what was made of `packed` arrays in their order of axes: always a view."""
    return batch_first(cupy, y) if y.ndim == 4 else y


def power_of_two(count: int) -> int:
    """Return the number of threads of a block that adds up `count` terms: a power of two from 32 to `THREADS`."""
    return min(THREADS, max(32, 1 << math.ceil(math.log2(max(1, count)))))
