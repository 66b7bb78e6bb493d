"""Softmax and cross entropy in one: the only stable way to take the logarithm of a softmax."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace, device_of, wide_dtype
from xpnet.kernels.table import register

__all__ = ["one_hot", "softmax_cross_entropy_backward", "softmax_cross_entropy_forward"]


@register("agnostic", "one_hot")
def one_hot(t: Array, K: int, dtype: Any, share: float, checked: bool) -> Array:
    """Return rows (N, K) of 0 with `share` at the place of each label (N,), int64.

    A label that is no class gives a row of NaN; nobody looks for one where the labels have been `checked`.
    """
    xp = array_namespace(t)
    classes = xp.arange(K, dtype=xp.int64, device=device_of(t))
    hot = xp.astype(t[:, None] == classes[None, :], dtype)
    if share != 1.0:
        hot *= share
    return hot if checked else xp.where(((t >= 0) & (t < K))[:, None], hot, xp.nan)


@register("agnostic", "softmax_cross_entropy_forward")
def softmax_cross_entropy_forward(logits: Array, target: Array) -> tuple[Array, Array]:
    """-sum(target * log_softmax(logits)); both (N, K), the targets with all weights and divisors in them.

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
    return -xp.sum(log_p * target), p


@register("agnostic", "softmax_cross_entropy_backward")
def softmax_cross_entropy_backward(dy: Array | float, p: Array, target: Array) -> Array:
    """d loss / d logits = dy * (softmax * sum of the row of targets - target)."""
    xp = array_namespace(p)
    dlogits = p * xp.sum(target, axis=1, keepdims=True)
    dlogits -= target
    dlogits *= dy
    return dlogits
