"""Relu for NumPy: written over what has just been made, and its gradient some channels at a time."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import relu
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy.pool import channel_blocks
from xpnet.kernels.table import register

__all__ = ["rectify", "relu_backward"]


@register("numpy", "rectify")
def rectify(y: Array) -> Array:
    """Return max(y, 0) of an array that the caller has just made, written over it."""
    return np.maximum(y, 0.0, out=y)


@register("numpy", "relu_backward")
def relu_backward(dy: Array, y: Array, need_db: bool) -> tuple[Array, Array | None]:
    """Return dx = dy where y > 0, else 0, and if needed its sum over all axes but the second: that of a bias."""
    if dy.ndim != 4 or dy.dtype.char not in "fd" or not dy.size:
        return relu.relu_backward(dy, y, need_db)
    given, top = batch_innermost(np, dy), batch_innermost(np, y)
    dx = np.empty_like(given)
    db = np.empty(len(given), dtype=dy.dtype) if need_db else None
    ones = np.ones(given[0].size, dtype=dy.dtype)
    for part in channel_blocks(given):
        block = dx[part]
        np.greater(top[part], 0.0, out=block)
        block *= given[part]
        if db is not None:
            np.matmul(block.reshape(len(block), -1), ones, out=db[part])  # while it is in cache
    return batch_first(np, dx), db
