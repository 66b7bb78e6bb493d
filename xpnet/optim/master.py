"""Weights in float32 beside those of a 16-bit model: what an optimizer updates in their place.

A step is often below half of the last place of a 16-bit weight and would be rounded away; in float32 steps add up
until the narrow weight follows. (Micikevicius et al., arXiv:1710.03740.)
"""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, is_half, wide_dtype
from xpnet.kernels import find
from xpnet.layers.parameter import Segment

__all__ = ["all_finite", "master_weights", "narrow", "to_update", "zeros_like"]


def master_weights(segment: Segment) -> Array | None:
    """Return a copy of the weights in float32; None where they are wide enough themselves."""
    xp = array_namespace(segment.data)
    if not is_half(xp, segment.data.dtype):
        return None
    return xp.astype(segment.data, xp.float32)


def zeros_like(segment: Segment) -> Array:
    """Return zeros, as many as weights, in at least float32."""
    xp = array_namespace(segment.data)
    return xp.astype(xp.zeros_like(segment.data), wide_dtype(xp, segment.data.dtype), copy=False)


def to_update(segment: Segment, master: Array | None, factor: float = 1.0) -> Segment:
    """Return the segment that the update takes place in: weights and ``factor * gradient``, in at least float32.

    Where somebody has written other weights since the last update (loaded a file, say), the master weights are
    these from now on.
    """
    if master is None:
        return segment if factor == 1.0 else Segment(segment.data, segment.grad * factor, segment.parameters)
    widen = find("widen_weights", array_namespace(master))
    return Segment(master, widen(segment.data, segment.grad, master, factor=factor), segment.parameters)


def narrow(updated: Segment, segment: Segment) -> None:
    """Round the updated weights to those of the model, where they are not the same."""
    if updated.data is not segment.data:
        find("narrow_weights", array_namespace(updated.data))(segment.data, updated.data)


def all_finite(segments: list[Segment]) -> Array | bool:
    """Tell whether all gradients are finite: a 0-d array, not waited for."""
    finite: Array | bool = True
    for segment in segments:
        xp = array_namespace(segment.grad)
        finite = xp.all(xp.isfinite(segment.grad)) & finite
    return finite
