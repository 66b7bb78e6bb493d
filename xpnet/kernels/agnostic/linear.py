"""The dense product, and the gradient of its input."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, is_half
from xpnet.kernels.table import find, register

__all__ = ["linear_forward", "linear_input_gradient", "linear_weight_gradient", "matmul"]


@register("agnostic", "matmul")
def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product a @ b of arrays of two axes, or of as many more as they both have."""
    xp = array_namespace(a)
    if len(a.shape) > 2 and is_half(xp, a.dtype):  # CuPy refuses stacks of matrices of bfloat16
        return xp.astype(xp.astype(a, xp.float32) @ xp.astype(b, xp.float32), a.dtype)
    return a @ b


@register("agnostic", "linear_forward")
def linear_forward(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W + b of x (N, I), W (I, O)."""
    y = find("matmul", array_namespace(x))(x, W)
    if b is not None:
        y += b  # y is ours: in place is allowed
    return y


@register("agnostic", "linear_input_gradient")
def linear_input_gradient(dy: Array, W: Array) -> Array:
    """dy @ W^T, the batch innermost in memory, as the layer before a Flatten wants it."""
    return find("matmul", array_namespace(dy))(W, dy.T).T


@register("agnostic", "linear_weight_gradient")
def linear_weight_gradient(dy: Array, x: Array) -> Array:
    """x^T @ dy."""
    return find("matmul", array_namespace(dy))(x.T, dy)
