"""Batches of samples for CuPy: stored as bytes, they are gathered, laid out and made floats by one launch."""

from __future__ import annotations

import math
from typing import Any

import cupy

from xpnet.backend import Array
from xpnet.kernels.agnostic import batch
from xpnet.kernels.cuda import TYPES, is_wide
from xpnet.kernels.cupy.launch import THREADS, contiguous, launch, launch_grid
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["gather_batch", "to_float"]

TILE = 32  # bytes of as many rows, for a block


@register("cupy", "gather_batch")
def gather_batch(
    stored: Array, rows: Array, order: tuple[int, ...], kind: str, scale: tuple[float, float] | None, dtype: Any
) -> Array:
    """Return rows of samples as `to_float` makes them of their `kind`; they lie in memory in an order of their axes."""
    count, sample = rows.size, stored.shape[1:]
    length = math.prod(sample)
    in_order, innermost = tuple(range(stored.ndim)), (*range(1, stored.ndim), 0)
    if not _is_taken(stored, dtype) or order not in (in_order, innermost) or not count * length:
        return batch.gather_batch(stored, rows, order, kind, scale, dtype)
    given = cupy.ascontiguousarray(stored), contiguous(rows, cupy.int64)
    if order == in_order:
        y = cupy.empty((count, *sample), dtype)
        launch("batch", "gather_rows", y, max(y.size, stored.size), *given, y, *_scaling(scale), length, y.size)
        return y
    y = cupy.empty((*sample, count), dtype)
    grid = (-(-length // TILE) * -(-count // TILE),)
    wide = is_wide(max(y.size, stored.size))
    launch_grid("batch", "gather_transposed", y.dtype, wide, grid, THREADS, *given, y, *_scaling(scale), length, count)
    return batch_first(cupy, y)


@register("cupy", "to_float")
def to_float(x: Array, kind: str, scale: tuple[float, float] | None, dtype: Any, *, copy: bool = False) -> Array:
    """Scale a batch that was stored as `kind` and give it its float type; `copy` says that `x` is not to be kept."""
    if not _is_taken(x, dtype) or not x.size:
        return batch.to_float(x, kind, scale, dtype, copy=copy)
    y = cupy.empty(x.shape, dtype)
    launch("batch", "bytes_to_float", y, y.size, cupy.ascontiguousarray(x), y, *_scaling(scale), y.size)
    return y


def _is_taken(x: Array, dtype: Any) -> bool:
    return x.dtype == cupy.uint8 and cupy.dtype(dtype).name in TYPES


def _scaling(scale: tuple[float, float] | None) -> tuple[bool, float, float]:
    """Return whether the bytes are scaled, by what, and what is added."""
    return (False, 0.0, 0.0) if scale is None else (True, float(scale[0]), float(scale[1]))
