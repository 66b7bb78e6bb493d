"""Clipping of gradients and limits on weights, of at least float32.

Nothing here waits for a device: norms and factors stay arrays.
"""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, bounded
from xpnet.kernels import find

__all__ = ["clip_by_norm", "clip_by_value", "global_norm", "limit_units"]


def clip_by_value(g: Array, limit: float) -> Array:
    """Return g with every element clipped to ``-limit .. limit``."""
    return bounded(array_namespace(g), g, -float(limit), float(limit))


def global_norm(gradients: list[Array]) -> Array:
    """Return the 2-norm of all the arrays together, of shape (1,)."""
    total = None
    for g in gradients:
        xp = array_namespace(g)
        square = find("square_sum", xp)(g)
        total = square if total is None else total + xp.astype(square, total.dtype, copy=False)
    assert total is not None
    return array_namespace(total).sqrt(total)


def clip_by_norm(g: Array, norm: Array, limit: float) -> Array:
    """Return ``g * min(1, limit / (norm + 1e-6))``, the norm being that of the whole gradient."""
    return find("clip_by_norm", array_namespace(g))(g, norm, float(limit))


def limit_units(w: Array, unit_axis: int, limit: float) -> None:
    """Scale the weights into each output unit back to 2-norm `limit` where theirs is larger, in place."""
    xp = array_namespace(w)
    others = tuple(axis for axis in range(len(w.shape)) if axis != unit_axis)
    norm = xp.sqrt(xp.sum(w * w, axis=others, keepdims=True))
    w *= float(limit) / xp.maximum(norm, float(limit))  # exactly 1 where it fits
