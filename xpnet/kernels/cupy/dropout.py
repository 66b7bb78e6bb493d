"""Dropout for CuPy: mask and product in one launch; the mask is NumPy's, counted on the device."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import launch, packed, unpacked
from xpnet.kernels.table import register

__all__ = ["dropout_backward", "dropout_forward"]


@register("cupy", "dropout_forward")
def dropout_forward(
    x: Array, rate: float, seed: int | Array, stream: int, step: int | Array, scale: float
) -> tuple[Array, Array]:
    """Return y = x * mask * scale and the mask, that of `xpnet.random.keep_mask`.

    Seed and step may be arrays, 0-d of uint64: of a recorded step, whose numbers must not be its arguments.
    """
    images = x.shape[0] if x.ndim == 4 else 1  # images lie batch-innermost, all else in C order
    given = packed(x)
    y, mask = cupy.empty_like(given), cupy.empty(given.shape, dtype=cupy.bool_)
    positions = x.size // images if x.size else 0
    threads = -(-positions // 8) * images
    words = (*_word(seed), np.uint64(stream), *_word(step), np.uint64(round(rate * 2**32)))
    if threads:
        launch("dropout", "dropout_forward", x, threads, given, y, mask, images, positions, threads, *words, scale)
    return unpacked(y), unpacked(mask)


def _word(number: int | Array) -> tuple[Any, np.uint64]:
    """Return a number as the kernel takes it: an array that holds it, or None and the number."""
    return (number, np.uint64(0)) if isinstance(number, cupy.ndarray) else (None, np.uint64(number))


@register("cupy", "dropout_backward")
def dropout_backward(dy: Array, mask: Array, scale: float) -> Array:
    """Return dx = dy * mask * scale."""
    given, kept = packed(dy), packed(mask)
    dx = cupy.empty_like(given)
    if dx.size:
        launch("dropout", "dropout_backward", dx, dx.size, given, kept, dx, dx.size, scale)
    return unpacked(dx)
