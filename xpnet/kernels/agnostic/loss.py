"""Softmax and cross entropy in one: the only stable way to take the logarithm of a softmax."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, wide_dtype
from xpnet.kernels.table import register

__all__ = ["softmax_cross_entropy_backward", "softmax_cross_entropy_forward"]


@register("agnostic", "softmax_cross_entropy_forward")
def softmax_cross_entropy_forward(logits: Array, target: Array) -> tuple[Array, Array]:
    """Mean over the batch of -sum(target * log_softmax(logits)); both (N, K).

    Returns the loss, a 0-d array, and the softmax (N, K), both in at least float32.
    """
    xp = array_namespace(logits)
    wide = wide_dtype(xp, logits.dtype)
    z = xp.astype(logits, wide, copy=False)
    z = z - xp.max(z, axis=1, keepdims=True)
    p = xp.exp(z)
    total = xp.sum(p, axis=1, keepdims=True)
    p /= total
    # log softmax times a target of zero is zero even where a logit is minus infinity
    log_p = xp.where(target == 0.0, 0.0, z - xp.log(total))
    return -xp.sum(log_p * target) / logits.shape[0], p


@register("agnostic", "softmax_cross_entropy_backward")
def softmax_cross_entropy_backward(dy: Array | float, p: Array, target: Array) -> Array:
    """d loss / d logits = dy * (softmax - target) / N, for targets that sum to one."""
    return (p - target) * (dy / p.shape[0])
