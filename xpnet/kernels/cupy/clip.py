"""Clipping of gradients by their norm for CuPy: one or two launches for the squares, and one to clip."""

from __future__ import annotations

import cupy

from xpnet.backend import Array
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import contiguous, launch, launch_sums
from xpnet.kernels.table import register

__all__ = ["clip_by_norm", "square_sum"]


@register("cupy", "square_sum")
def square_sum(g: Array) -> Array:
    """Return the sum of the squares of all elements, of shape (1,)."""
    total = cupy.empty((1,), g.dtype)
    launch_sums("clip", "square_sum", total, g.size, (cupy.ascontiguousarray(g),), (g.size,), is_wide(g.size))
    return total


@register("cupy", "clip_by_norm")
def clip_by_norm(g: Array, norm: Array, limit: float) -> Array:
    """Return ``g * min(1, limit / (norm + 1e-6))`` of a norm of shape (1,)."""
    given = cupy.ascontiguousarray(g)
    made = cupy.empty_like(given)
    launch("clip", "clip_by_norm", made, made.size, given, contiguous(norm, g.dtype), made, limit, made.size)
    return made
