"""Activations of the form x times a gate from 0 to 1, and their gradients.

The smooth ones are clamped where the gate is 0 or 1 to the last bit, so that no intermediate overflows, and computed
in at least float32.
"""

from __future__ import annotations

import math
from typing import Any

from xpnet.backend import Array, array_namespace, bounded
from xpnet.kernels.agnostic.activation import logistic, lowest_exponent
from xpnet.kernels.layout import elementwise, elementwise_wide
from xpnet.kernels.table import find, register

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

FLAT = 40.0  # beyond +-40 the normal density is 0 and its integral 0 or 1, in float64 too
FLAT_TANH = 10.0  # the same for the approximation by tanh
SQRT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
TANH_SCALE, CUBIC = math.sqrt(2.0 / math.pi), 0.044715
MISH_FLAT = 1000.0  # exp(-1000) is 0
MISH_TOP = 20.0  # here the gate is 1 to the last bit, and exp(20)^4 still finite in float32


@register("agnostic", "silu_forward")
def silu_forward(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    xp = array_namespace(x)

    def silu(a: Array) -> Array:
        y = logistic(xp, a)
        y *= xp.maximum(a, lowest_exponent(xp, a.dtype))
        return y

    return elementwise_wide(xp, silu, x)


@register("agnostic", "silu_backward")
def silu_backward(dy: Array, x: Array) -> Array:
    """Return dy * s * (1 + x * (1 - s)) with s = sigmoid(x)."""
    xp = array_namespace(dy)

    def gradient(d: Array, x: Array) -> Array:
        low = lowest_exponent(xp, x.dtype)
        s = logistic(xp, x)
        factor = (1.0 - s) * bounded(xp, x, low, -low)
        factor += 1.0
        factor *= s
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, x)


@register("agnostic", "gelu_forward")
def gelu_forward(x: Array, approximate: str) -> Array:
    """Return x * P(X < x) for a standard normal X, "none" or by "tanh"."""
    xp = array_namespace(x)

    def gelu(a: Array) -> Array:
        y, _ = _gelu_gate(xp, a, approximate)
        y *= xp.maximum(a, -FLAT)
        return y

    return elementwise_wide(xp, gelu, x)


@register("agnostic", "gelu_backward")
def gelu_backward(dy: Array, x: Array, approximate: str) -> Array:
    """Return dy * (gate + x * d gate / dx), where y = x * gate."""
    xp = array_namespace(dy)

    def gradient(d: Array, x: Array) -> Array:
        factor, slope = _gelu_gate(xp, x, approximate, with_slope=True)
        slope *= bounded(xp, x, -FLAT, FLAT)
        factor += slope
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, x)


def _gelu_gate(xp: Any, x: Array, approximate: str, with_slope: bool = False) -> tuple[Array, Any]:
    """Return the gate, from 0 to 1, and if wanted its derivative: two new arrays."""
    slope = None
    if approximate == "tanh":
        a = bounded(xp, x, -FLAT_TANH, FLAT_TANH)
        squares = a * a
        gate = xp.tanh(a * (squares * (TANH_SCALE * CUBIC) + TANH_SCALE))
        if with_slope:  # of (1 + tanh(u)) / 2: (1 - tanh(u)^2) / 2 * du / dx
            slope = (0.5 - 0.5 * gate * gate) * (squares * (3.0 * TANH_SCALE * CUBIC) + TANH_SCALE)
    else:
        a = bounded(xp, x, -FLAT, FLAT)
        gate = find("erf", xp)(a * SQRT_HALF)
        if with_slope:
            slope = xp.exp(a * a * -0.5)
            slope *= DENSITY
    gate += 1.0
    gate *= 0.5
    return gate, slope


@register("agnostic", "mish_forward")
def mish_forward(x: Array) -> Array:
    """Return x * tanh(log(1 + exp(x))): with e = exp(x) and n = e (e + 2) the gate is n / (n + 2)."""
    xp = array_namespace(x)

    def mish(a: Array) -> Array:
        _, n = _mish_terms(xp, a)
        y = n / (n + 2.0)
        y *= xp.maximum(a, -MISH_FLAT)
        return y

    return elementwise_wide(xp, mish, x)


@register("agnostic", "mish_backward")
def mish_backward(dy: Array, x: Array) -> Array:
    """Return dy * (n / (n + 2) + 4 x e (1 + e) / (n + 2)^2)."""
    xp = array_namespace(dy)

    def gradient(d: Array, x: Array) -> Array:
        e, n = _mish_terms(xp, x)
        root = 2.0 / (n + 2.0)
        factor = root * root
        factor *= e * (1.0 + e)
        factor *= bounded(xp, x, -MISH_FLAT, MISH_TOP)
        factor += 0.5 * n * root
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, x)


def _mish_terms(xp: Any, x: Array) -> tuple[Array, Array]:
    """Return e = exp(x) and n = e (e + 2): two new arrays."""
    e = xp.exp(bounded(xp, x, -MISH_FLAT, MISH_TOP))
    return e, e * (e + 2.0)


@register("agnostic", "hard_swish_forward")
def hard_swish_forward(x: Array) -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6."""
    xp = array_namespace(x)

    def hard_swish(a: Array) -> Array:
        y = bounded(xp, a + 3.0, 0.0, 6.0)
        y /= 6.0
        y *= xp.maximum(a, -3.0)
        return y

    return elementwise(xp, hard_swish, x)


@register("agnostic", "hard_swish_backward")
def hard_swish_backward(dy: Array, x: Array) -> Array:
    """Return dy * (2 x + 3) / 6 where |x| < 3, else dy or 0."""
    xp = array_namespace(dy)

    def gradient(d: Array, x: Array) -> Array:
        factor = bounded(xp, x, -3.0, 3.0)
        inside = xp.astype(xp.abs(factor) < 3.0, d.dtype)
        factor *= inside + 1.0
        factor += 3.0
        factor /= 6.0
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, x)
