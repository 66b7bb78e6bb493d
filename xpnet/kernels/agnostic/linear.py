"""The dense product, and the gradient of its input."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["linear_forward", "linear_input_gradient"]


@register("agnostic", "linear_forward")
def linear_forward(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W + b of x (N, I), W (I, O)."""
    y = x @ W
    if b is not None:
        y += b  # y is ours: in place is allowed
    return y


@register("agnostic", "linear_input_gradient")
def linear_input_gradient(dy: Array, W: Array) -> Array:
    """dy @ W^T, the batch innermost in memory, as the layer before a Flatten wants it."""
    return (W @ dy.T).T
