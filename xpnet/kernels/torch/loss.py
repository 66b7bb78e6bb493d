"""Softmax and cross entropy by torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xpnet.backend import Array, dtype_name, wide_dtype
from xpnet.kernels.agnostic import loss
from xpnet.kernels.table import register

__all__ = ["one_hot", "softmax_cross_entropy_forward"]


@register("torch", "one_hot")
def one_hot(t: Array, K: int, dtype: Any, kept: Array | None) -> Array:
    """Return rows (N, K) of 0 with a 1 at the place of each label (N,), int64; of 0 alone where `kept` (N, 1) is 0.

    On the host nobody gives a label that is no class; elsewhere, where nobody looks, its row is NaN.
    """
    if t.device.type != "cpu":
        return loss.one_hot(t, K, dtype, kept)
    hot = t.numpy()[:, None] == np.arange(K)  # in a third of torch's time
    target = torch.from_numpy(hot.astype(dtype_name(dtype)))
    return target if kept is None else target * kept


@register("torch", "softmax_cross_entropy_forward")
def softmax_cross_entropy_forward(logits: Array, target: Array) -> tuple[Array, Array]:
    """-sum(target * log_softmax(logits)); both (N, K), the targets with all weights and divisors in them.

    Returns the loss, a 0-d array, and the softmax (N, K), both in at least float32.
    """
    log_p = torch.log_softmax(logits, 1, dtype=wide_dtype(torch, logits.dtype))
    # times a target of zero it is zero even where a logit is minus infinity
    return -torch.sum(target * log_p.masked_fill(target == 0.0, 0.0)), torch.exp(log_p)
