"""What a training counts of each batch, added to what it has counted before."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace
from xpnet.kernels.table import register

__all__ = ["add_product", "count_correct"]


@register("agnostic", "count_correct")
def count_correct(y: Array, labels: Array, ignore_index: int | None, correct: Any, counted: Any) -> tuple[Any, Any]:
    """Return `correct` plus the rows of `y` (N, K) with their first maximum at the label, and `counted` plus all rows.

    Labels (N,) are int64; rows whose label is `ignore_index` are in neither sum. The sums are whole numbers or 0-d
    arrays of int64, which are not changed.
    """
    xp = array_namespace(y)
    hits = xp.argmax(y, axis=1) == labels
    rows: Any = y.shape[0]
    if ignore_index is not None:
        kept = labels != ignore_index
        hits, rows = hits & kept, xp.sum(xp.astype(kept, xp.int64))
    return correct + xp.sum(xp.astype(hits, xp.int64)), counted + rows


@register("agnostic", "add_product")
def add_product(total: Any, value: Any, weight: Any) -> Any:
    """Return total + value * weight of numbers or 0-d arrays."""
    return total + value * weight
