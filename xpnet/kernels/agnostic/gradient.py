"""Adding the gradients of a backward to those of the model."""

from __future__ import annotations

from collections.abc import Sequence

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["add_all", "bytes_to_wait"]


@register("agnostic", "bytes_to_wait")
def bytes_to_wait() -> int:
    """Return how many bytes of gradients may wait for one another, to be added by one call of `add_all`.

    With 0 each is added when it is made, while it is in cache, and its memory is free again.
    """
    return 0


@register("agnostic", "add_all")
def add_all(sums: Sequence[Array], terms: Sequence[Array]) -> None:
    """Add to each array, in place, the term of its shape and type; no two sums share memory."""
    for total, term in zip(sums, terms, strict=True):
        total += term
