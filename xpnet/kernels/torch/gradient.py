"""Adding the gradients of a backward to those of the model by torch: one call for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["add_all", "bytes_to_wait"]


@register("torch", "bytes_to_wait")
def bytes_to_wait() -> int:
    """Return how many bytes of gradients may wait for one another, to be added by one call of `add_all`."""
    return 16 << 20


@register("torch", "add_all")
def add_all(sums: Sequence[Array], terms: Sequence[Array]) -> None:
    """Add to each array, in place, the term of its shape and type; no two sums share memory."""
    torch._foreach_add_(list(sums), list(terms))
