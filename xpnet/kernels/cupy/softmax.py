"""Softmax and its logarithm for CuPy: one launch each way, along any axis."""

from __future__ import annotations

import math

import cupy

from xpnet.backend import Array, finfo, is_half
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import THREADS, launch_grid, packed, power_of_two, unpacked
from xpnet.kernels.table import register

__all__ = ["log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"]

MOST_LANES = 32  # columns of a block: as many neighbours as a warp reads at once


def _along_axis(name: str, axis: int, given: tuple[Array, ...], *numbers: float) -> Array:
    """Return what a kernel makes of packed arrays of one shape, by columns along an axis of what they were before."""
    like = given[0]
    made = cupy.empty_like(like)
    if not made.size:
        return unpacked(made)
    axis %= like.ndim
    axis = (axis - 1) % 4 if like.ndim == 4 else axis  # packed images have the batch last
    K, inner = like.shape[axis], math.prod(like.shape[axis + 1 :])
    lanes = min(MOST_LANES, 1 << (inner - 1).bit_length())
    blocks = made.size // (K * inner) * -(-inner // lanes)
    threads = min(THREADS, power_of_two(K) * lanes)
    launch_grid(
        "softmax", name, made.dtype, is_wide(made.size), (blocks,), threads, *given, made, *numbers, K, inner, lanes
    )
    return unpacked(made)


@register("cupy", "softmax_forward")
def softmax_forward(x: Array, axis: int) -> Array:
    """Return exp(x) / sum of exp(x) along an axis."""
    return _along_axis("softmax", axis, (packed(x),), False, -math.inf)


@register("cupy", "softmax_backward")
def softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    """Return y * (dy - sum of dy * y along the axis)."""
    return _along_axis("softmax_gradient", axis, (packed(dy), packed(y)), False)


@register("cupy", "log_softmax_forward")
def log_softmax_forward(x: Array, axis: int) -> Array:
    """Return x - log(sum of exp(x)) along an axis; in a half type no less than its lowest finite number."""
    lowest = float(finfo(cupy, x.dtype).min) if is_half(cupy, x.dtype) else -math.inf
    return _along_axis("softmax", axis, (packed(x),), True, lowest)


@register("cupy", "log_softmax_backward")
def log_softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    """Return dy - exp(y) * sum of dy along the axis."""
    return _along_axis("softmax_gradient", axis, (packed(dy), packed(y)), True)
