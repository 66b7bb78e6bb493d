"""Softmax cross entropy for CuPy: two launches forward, one backward, and one for the targets of labels."""

from __future__ import annotations

from typing import Any

import cupy

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import THREADS, contiguous, launch, launch_grid, power_of_two
from xpnet.kernels.table import register

__all__ = ["one_hot", "softmax_cross_entropy_backward", "softmax_cross_entropy_forward"]


def _launch(name: str, like: Array, blocks: int, threads: int, *arguments: Any) -> None:
    launch_grid("loss", name, like.dtype, is_wide(like.size), (blocks,), threads, *arguments)


@register("cupy", "one_hot")
def one_hot(t: Array, K: int, dtype: Any, kept: Array | None) -> Array:
    """Return rows (N, K) of 0 with a 1 at the place of each label (N,), int64; of 0 alone where `kept` (N, 1) is 0.

    The row of a label that is no class is NaN.
    """
    target = cupy.empty((t.shape[0], K), dtype)
    launch(
        "loss", "one_hot", target, target.size, contiguous(t, t.dtype), contiguous(kept, dtype), target, K, target.size
    )
    return target


@register("cupy", "softmax_cross_entropy_forward")
def softmax_cross_entropy_forward(logits: Array, target: Array) -> tuple[Array, Array]:
    """-sum(target * log_softmax(logits)); both (N, K), the targets with all weights and divisors in them.

    Returns the loss, a 0-d array, and the softmax (N, K), both in at least float32.
    """
    (N, K), wide = logits.shape, wide_dtype(cupy, logits.dtype)
    logits, wanted = cupy.ascontiguousarray(logits), cupy.ascontiguousarray(target, dtype=wide)
    p, losses, total = cupy.empty((N, K), wide), cupy.empty((N,), wide), cupy.empty((), wide)
    _launch("softmax_cross_entropy", logits, N, power_of_two(K), logits, wanted, p, losses, K)
    _launch("sum_losses", logits, 1, THREADS, losses, total, N)
    return total, p


@register("cupy", "softmax_cross_entropy_backward")
def softmax_cross_entropy_backward(dy: Array | float, p: Array, target: Array) -> Array:
    """d loss / d logits = dy * (softmax * sum of the row of targets - target)."""
    N, K = p.shape
    dlogits = cupy.empty((N, K), p.dtype)
    factor = (None, float(dy)) if isinstance(dy, float) else (cupy.ascontiguousarray(dy, dtype=p.dtype), 0.0)
    arrays = (cupy.ascontiguousarray(p), cupy.ascontiguousarray(target, dtype=p.dtype), dlogits)
    _launch("softmax_cross_entropy_gradient", p, N, power_of_two(K), *factor, *arrays, K)
    return dlogits
