"""Local response normalisation over rows of a (C, L) matrix: a window of channels is a few shifted rows."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace
from xpnet.kernels.agnostic.norm import channel_rows, from_rows
from xpnet.kernels.table import register

__all__ = ["local_response_norm_backward", "local_response_norm_forward"]


def _window_sum(xp: Any, rows: Array, before: int, after: int) -> Array:
    """Return for each row the sum of the rows from `before` above it to `after` below it."""
    C = rows.shape[0]
    total = xp.asarray(rows, copy=True)
    for shift in range(1, min(before, C - 1) + 1):
        total[shift:, :] += rows[: C - shift, :]
    for shift in range(1, min(after, C - 1) + 1):
        total[: C - shift, :] += rows[shift:, :]
    return total


def _negative_power(xp: Any, a: Array, beta: float) -> Array:
    """Return a ** -beta; square roots where they do, for a general power takes many times as long."""
    if beta == 0.75:
        root = xp.sqrt(a)
        root *= xp.sqrt(root)
        return 1.0 / root
    if beta == 0.5:
        return 1.0 / xp.sqrt(a)
    return a**-beta


@register("agnostic", "local_response_norm_forward")
def local_response_norm_forward(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
    """Return y = x d**-beta and d = k + alpha/size * window sum of x**2, d (C, L) in at least float32."""
    xp = array_namespace(x)
    rows = channel_rows(xp, x)
    d = _window_sum(xp, rows * rows, size // 2, (size - 1) // 2)
    d *= alpha / size
    d += k
    return from_rows(xp, rows * _negative_power(xp, d, beta), x), d


@register("agnostic", "local_response_norm_backward")
def local_response_norm_backward(dy: Array, x: Array, d: Array, size: int, alpha: float, beta: float) -> Array:
    """Return dx = dy d**-beta - 2 alpha beta/size x * mirrored window sum of dy x d**(-beta-1)."""
    xp = array_namespace(dy)
    dy_rows, rows = channel_rows(xp, dy), channel_rows(xp, x)
    dx = dy_rows * _negative_power(xp, d, beta)
    inner = _window_sum(xp, dx * rows / d, (size - 1) // 2, size // 2)
    inner *= rows
    inner *= -2.0 * alpha * beta / size
    dx += inner
    return from_rows(xp, dx, x)
