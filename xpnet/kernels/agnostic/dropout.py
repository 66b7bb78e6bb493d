"""Dropout: the mask is drawn on the host by counted random numbers, so it is the same on every backend."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, device_of
from xpnet.kernels.table import register
from xpnet.random import keep_mask

__all__ = ["dropout_backward", "dropout_forward"]


@register("agnostic", "dropout_forward")
def dropout_forward(x: Array, rate: float, seed: int, stream: int, step: int, scale: float) -> tuple[Array, Array]:
    """Return y = x * mask * scale and the mask, that of `xpnet.random.keep_mask`."""
    xp = array_namespace(x)
    mask = xp.asarray(keep_mask(x.shape, rate, seed, stream, step), device=device_of(x))
    return xp.astype(x * (xp.astype(mask, x.dtype) * scale), x.dtype, copy=False), mask


@register("agnostic", "dropout_backward")
def dropout_backward(dy: Array, mask: Array, scale: float) -> Array:
    """Return dx = dy * mask * scale."""
    xp = array_namespace(dy)
    return xp.astype(dy * (xp.astype(mask, dy.dtype) * scale), dy.dtype, copy=False)
