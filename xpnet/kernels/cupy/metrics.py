"""What a training counts of each batch, for CuPy: a launch for the accuracy, two for many scores, one for the loss."""

from __future__ import annotations

from typing import Any

import cupy

from xpnet.backend import Array
from xpnet.kernels.agnostic import metrics
from xpnet.kernels.cuda import TYPES, is_wide
from xpnet.kernels.cupy.launch import MOST_PARTS, PART, THREADS, contiguous, launch_grid, power_of_two
from xpnet.kernels.table import register

__all__ = ["add_product", "count_correct"]


@register("cupy", "count_correct")
def count_correct(y: Array, labels: Array, ignore_index: int | None, correct: Any, counted: Any) -> tuple[Any, Any]:
    """Return `correct` plus the rows of `y` (N, K) with their first maximum at the label, and `counted` plus all rows.

    Labels (N,) are int64; rows whose label is `ignore_index` are in neither sum. The sums are whole numbers or 0-d
    arrays of int64, which are not changed.
    """
    if y.ndim != 2 or labels.shape != y.shape[:1] or not y.size or y.dtype.name not in TYPES:
        return metrics.count_correct(y, labels, ignore_index, correct, counted)
    N, K = y.shape
    part = max(1, PART // K, -(-N // MOST_PARTS))  # rows of a block
    parts, wide = -(-N // part), is_wide(y.size)
    sums = cupy.empty((2,), cupy.int64)
    partial = cupy.empty((parts, 2), cupy.int64) if parts > 1 else None
    before = (*_array_or_number(correct, cupy.int64, int), *_array_or_number(counted, cupy.int64, int))
    ignored = (False, 0) if ignore_index is None else (True, int(ignore_index))
    given = (cupy.ascontiguousarray(y), cupy.ascontiguousarray(labels), K, _lanes(min(part, N), K), *ignored)
    made = (partial, sums if partial is None else None, N, part)
    launch_grid("metrics", "count_correct", y.dtype, wide, (parts,), THREADS, *given, *before, *made)
    if partial is not None:
        launch_grid("metrics", "add_counts", y.dtype, wide, (1,), power_of_two(parts), partial, *before, sums, parts)
    return sums[0, ...], counted + N if ignore_index is None else sums[1, ...]


def _lanes(rows: int, K: int) -> int:
    """Return how many threads look for the maximum of a row: a power of two, so that a block is busy with its rows."""
    lanes = 1
    while 2 * lanes <= K and 2 * lanes * rows <= THREADS:
        lanes *= 2
    return lanes


@register("cupy", "add_product")
def add_product(total: Any, value: Any, weight: Any) -> Any:
    """Return total + value * weight of numbers or 0-d arrays."""
    types = {a.dtype.name for a in (total, value, weight) if isinstance(a, cupy.ndarray)}
    if not isinstance(value, cupy.ndarray) or types not in ({"float32"}, {"float64"}):  # a loss of the user's own
        return metrics.add_product(total, value, weight)
    dtype = value.dtype
    made = cupy.empty((), dtype)
    given = (*_array_or_number(total, dtype, float), contiguous(value, dtype), *_array_or_number(weight, dtype, float))
    launch_grid("metrics", "add_product", dtype, False, (1,), 1, *given, made)
    return made


def _array_or_number(value: Any, dtype: Any, number: type) -> tuple[Array | None, Any]:
    """Return what kernels take for an array of one element, or for a number."""
    return (contiguous(value, dtype), number(0)) if isinstance(value, cupy.ndarray) else (None, number(value))
