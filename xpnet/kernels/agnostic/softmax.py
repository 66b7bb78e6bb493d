"""Softmax and its logarithm along an axis, and their gradients."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, finfo, is_half, wide_dtype
from xpnet.kernels.table import register

__all__ = ["log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"]


@register("agnostic", "softmax_forward")
def softmax_forward(x: Array, axis: int) -> Array:
    """Return exp(x) / sum of exp(x) along an axis."""
    xp = array_namespace(x)
    wide = xp.astype(x, wide_dtype(xp, x.dtype), copy=False)
    y = xp.exp(wide - xp.max(wide, axis=axis, keepdims=True))
    y /= xp.sum(y, axis=axis, keepdims=True)
    return xp.astype(y, x.dtype, copy=False)


@register("agnostic", "softmax_backward")
def softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    """Return y * (dy - sum of dy * y along the axis)."""
    xp = array_namespace(dy)
    inner = xp.sum(dy * y, axis=axis, keepdims=True, dtype=wide_dtype(xp, dy.dtype))
    return y * (dy - xp.astype(inner, dy.dtype, copy=False))


@register("agnostic", "log_softmax_forward")
def log_softmax_forward(x: Array, axis: int) -> Array:
    """Return x - log(sum of exp(x)) along an axis; in a half type no less than its lowest finite number."""
    xp = array_namespace(x)
    wide = xp.astype(x, wide_dtype(xp, x.dtype), copy=False)
    y = wide - xp.max(wide, axis=axis, keepdims=True)
    y -= xp.log(xp.sum(xp.exp(y), axis=axis, keepdims=True))
    if is_half(xp, x.dtype):
        y = xp.maximum(y, float(finfo(xp, x.dtype).min))  # two float16 can be further apart than float16 can say
    return xp.astype(y, x.dtype, copy=False)


@register("agnostic", "log_softmax_backward")
def log_softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    """Return dy - exp(y) * sum of dy along the axis."""
    xp = array_namespace(dy)
    total = xp.sum(dy, axis=axis, keepdims=True, dtype=wide_dtype(xp, dy.dtype))
    return dy - xp.exp(y) * xp.astype(total, dy.dtype, copy=False)
