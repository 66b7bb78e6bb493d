"""Softmax and cross entropy in one: the only stable way to take the logarithm of a softmax."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace, device_of, is_on_host, wide_dtype
from xpnet.kernels.table import register

__all__ = ["one_hot", "softmax_cross_entropy_backward", "softmax_cross_entropy_forward"]


@register("agnostic", "one_hot")
def one_hot(t: Array, K: int, dtype: Any, kept: Array | None) -> Array:
    """Return rows (N, K) of 0 with a 1 at the place of each label (N,), int64; of 0 alone where `kept` (N, 1) is 0.

    On the host nobody gives a label that is no class; elsewhere, where nobody looks, its row is NaN.
    """
    xp = array_namespace(t)
    classes = xp.arange(K, dtype=xp.int64, device=device_of(t))
    target = xp.astype(t[:, None] == classes[None, :], dtype)
    if kept is not None:
        target *= kept  # it may be the number of a class
    if not is_on_host(t):
        total = xp.sum(target, axis=1, keepdims=True)  # 1 for a valid label, 0 for others
        target /= total if kept is None else total + (1.0 - kept)  # 0/0 = NaN
    return target


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
