"""Dropout for CuPy: mask and product in one launch; the mask is NumPy's, counted on the device."""

from __future__ import annotations

import cupy
import numpy as np

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import launch, packed, unpacked
from xpnet.kernels.table import register

__all__ = ["dropout_backward", "dropout_forward"]


@register("cupy", "dropout_forward")
def dropout_forward(x: Array, rate: float, seed: int, stream: int, step: int, scale: float) -> tuple[Array, Array]:
    """Return y = x * mask * scale and the mask, that of `xpnet.random.keep_mask`."""
    images = x.shape[0] if x.ndim == 4 else 1  # images lie batch-innermost, all else in C order
    given = packed(x)
    y, mask = cupy.empty_like(given), cupy.empty(given.shape, dtype=cupy.bool_)
    positions = x.size // images if x.size else 0
    threads = -(-positions // 8) * images
    words = (np.uint64(n) for n in (seed, stream, step, round(rate * 2**32)))
    if threads:
        launch("dropout", "dropout_forward", x, threads, given, y, mask, images, positions, threads, *words, scale)
    return unpacked(y), unpacked(mask)


@register("cupy", "dropout_backward")
def dropout_backward(dy: Array, mask: Array, scale: float) -> Array:
    """Return dx = dy * mask * scale."""
    given, kept = packed(dy), packed(mask)
    dx = cupy.empty_like(given)
    if dx.size:
        launch("dropout", "dropout_backward", dx, dx.size, given, kept, dx, dx.size, scale)
    return unpacked(dx)
