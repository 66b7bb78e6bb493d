"""Clipping of gradients by their norm, of at least float32."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace
from xpnet.kernels.table import register

__all__ = ["clip_by_norm", "square_sum"]


@register("agnostic", "square_sum")
def square_sum(g: Array) -> Array:
    """Return the sum of the squares of all elements, of shape (1,)."""
    xp = array_namespace(g)
    return xp.reshape(xp.sum(g * g, keepdims=True), (1,))


@register("agnostic", "clip_by_norm")
def clip_by_norm(g: Array, norm: Array, limit: float) -> Array:
    """Return ``g * min(1, limit / (norm + 1e-6))`` of a norm of shape (1,)."""
    xp = array_namespace(g)
    factor = xp.minimum(limit / (norm + 1e-6), 1.0)
    return g * xp.astype(factor, g.dtype, copy=False)
