"""Activations of the form x times a gate for CuPy: each one launch, in the memory order of images."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import each_element
from xpnet.kernels.table import register

__all__ = [
    "gelu_backward",
    "gelu_forward",
    "hard_swish_backward",
    "hard_swish_forward",
    "mish_backward",
    "mish_forward",
    "silu_backward",
    "silu_forward",
]


@register("cupy", "silu_forward")
def silu_forward(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return each_element("gated", "silu", x)


@register("cupy", "silu_backward")
def silu_backward(dy: Array, x: Array) -> Array:
    """Return dy * s * (1 + x * (1 - s)) with s = sigmoid(x)."""
    return each_element("gated", "silu_gradient", dy, x)


@register("cupy", "gelu_forward")
def gelu_forward(x: Array, approximate: str) -> Array:
    """Return x * P(X < x) for a standard normal X, "none" or by "tanh"."""
    return each_element("gated", f"gelu_{approximate}", x)


@register("cupy", "gelu_backward")
def gelu_backward(dy: Array, x: Array, approximate: str) -> Array:
    """Return dy * (gate + x * d gate / dx), where y = x * gate."""
    return each_element("gated", f"gelu_{approximate}_gradient", dy, x)


@register("cupy", "mish_forward")
def mish_forward(x: Array) -> Array:
    """Return x * tanh(log(1 + exp(x)))."""
    return each_element("gated", "mish", x)


@register("cupy", "mish_backward")
def mish_backward(dy: Array, x: Array) -> Array:
    """Return the gradient of `mish_forward`."""
    return each_element("gated", "mish_gradient", dy, x)


@register("cupy", "hard_swish_forward")
def hard_swish_forward(x: Array) -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6."""
    return each_element("gated", "hard_swish", x)


@register("cupy", "hard_swish_backward")
def hard_swish_backward(dy: Array, x: Array) -> Array:
    """Return dy * (2 x + 3) / 6 where |x| < 3, else dy or 0."""
    return each_element("gated", "hard_swish_gradient", dy, x)
