"""Activations without a pass of their own in most libraries, whose gradient is had from the output, or by pieces."""

from __future__ import annotations

import math
from typing import Any

from xpnet.backend import Array, array_namespace, bounded, finfo, wide_dtype
from xpnet.kernels.layout import elementwise
from xpnet.kernels.table import find, register

__all__ = [
    "elu_backward",
    "elu_forward",
    "exponential_forward",
    "hard_sigmoid_backward",
    "hard_sigmoid_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "prelu_backward",
    "prelu_forward",
    "relu6_backward",
    "relu6_forward",
    "softplus_backward",
    "softplus_forward",
    "softsign_backward",
    "softsign_forward",
]


@register("agnostic", "leaky_relu_forward")
def leaky_relu_forward(x: Array, slope: float) -> Array:
    """Return x where x > 0, else slope * x."""
    xp = array_namespace(x)
    outer = xp.maximum if slope <= 1.0 else xp.minimum
    return elementwise(xp, lambda a: outer(a, slope * a), x)


@register("agnostic", "leaky_relu_backward")
def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """Return dy where y > 0, else slope * dy."""
    xp = array_namespace(dy)

    def gradient(d: Array, y: Array) -> Array:
        factor = xp.astype(y > 0.0, d.dtype)
        factor *= 1.0 - slope
        factor += slope
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, y)


@register("agnostic", "prelu_forward")
def prelu_forward(x: Array, slope: Array) -> Array:
    """Return x where x > 0, else slope * x, the slopes (1,) or (C,) going with axis 1."""
    xp = array_namespace(x)

    def value(a: Array, s: Array) -> Array:
        y = xp.minimum(a, 0.0) * s
        y += xp.maximum(a, 0.0)
        return y

    return elementwise(xp, value, x, _beside(xp, slope, x))


@register("agnostic", "prelu_backward")
def prelu_backward(dy: Array, x: Array, slope: Array) -> tuple[Array, Array]:
    """Return dx and dslope, the sum of dy * min(x, 0) over all that has the slope."""
    xp = array_namespace(dy)

    def gradient(d: Array, x: Array, s: Array) -> Array:
        above = xp.astype(x > 0.0, d.dtype)
        factor = (1.0 - above) * s
        factor += above
        factor *= d
        return factor

    dx = elementwise(xp, gradient, dy, x, _beside(xp, slope, x))
    terms = elementwise(xp, lambda d, x: d * xp.minimum(x, 0.0), dy, x)
    wide = wide_dtype(xp, dy.dtype)
    others = tuple(axis for axis in range(len(dy.shape)) if axis != 1 or slope.shape[0] == 1)
    dslope = xp.reshape(xp.sum(terms, axis=others, dtype=wide), tuple(slope.shape))
    return dx, xp.astype(dslope, dy.dtype, copy=False)


def _beside(xp: Any, slope: Array, x: Array) -> Array:
    """Return the slopes shaped to go with the axes of `x`: (1, C, 1, ...)."""
    shape = [1] * len(x.shape)
    if len(shape) > 1:
        shape[1] = slope.shape[0]
    return xp.reshape(slope, tuple(shape))


@register("agnostic", "elu_forward")
def elu_forward(x: Array, above: float, below: float) -> Array:
    """Return above * x where x > 0, else below * (exp(x) - 1): elu, and selu."""
    xp = array_namespace(x)

    def elu(a: Array) -> Array:
        y = find("expm1_of_negative", xp)(xp.minimum(a, 0.0))
        y *= below
        y += xp.maximum(a, 0.0) * above
        return y

    return elementwise(xp, elu, x)


@register("agnostic", "elu_backward")
def elu_backward(dy: Array, y: Array, above: float, below: float) -> Array:
    """Return dy times above where y > 0, else times y + below."""
    xp = array_namespace(dy)

    def gradient(d: Array, y: Array) -> Array:
        factor = xp.minimum(y, 0.0)
        factor += below
        if above != below:
            factor += (above - below) * xp.astype(y > 0.0, d.dtype)
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, y)


@register("agnostic", "softplus_forward")
def softplus_forward(x: Array) -> Array:
    """Return log(1 + exp(x)), as log(1 + exp(-|x|)) + max(x, 0)."""
    xp = array_namespace(x)

    def softplus(a: Array) -> Array:
        y = find("log1p_of_unit", xp)(xp.exp(-xp.abs(a)))
        y += xp.maximum(a, 0.0)
        return y

    return elementwise(xp, softplus, x)


@register("agnostic", "softplus_backward")
def softplus_backward(dy: Array, y: Array) -> Array:
    """Return dy * (1 - exp(-y))."""
    xp = array_namespace(dy)
    return elementwise(xp, lambda d, y: d * -find("expm1_of_negative", xp)(-y), dy, y)


@register("agnostic", "exponential_forward")
def exponential_forward(x: Array) -> Array:
    """Return exp(x), infinite without a warning where it is beyond the type."""
    xp = array_namespace(x)
    info = finfo(xp, x.dtype)
    top = math.log(float(info.max)) * (1.0 - 2.0 * float(info.eps))  # rounded to the type, still finite
    return elementwise(xp, lambda a: xp.where(a > top, math.inf, xp.exp(xp.minimum(a, top))), x)


@register("agnostic", "relu6_forward")
def relu6_forward(x: Array) -> Array:
    """Return min(max(x, 0), 6)."""
    xp = array_namespace(x)
    return elementwise(xp, lambda a: bounded(xp, a, 0.0, 6.0), x)


@register("agnostic", "relu6_backward")
def relu6_backward(dy: Array, y: Array) -> Array:
    """Return dy where 0 < y < 6, else 0."""
    xp = array_namespace(dy)
    return elementwise(xp, lambda d, y: d * xp.astype((y > 0.0) & (y < 6.0), d.dtype), dy, y)


@register("agnostic", "hard_sigmoid_forward")
def hard_sigmoid_forward(x: Array) -> Array:
    """Return min(max(0.2 x + 0.5, 0), 1)."""
    xp = array_namespace(x)

    def hard_sigmoid(a: Array) -> Array:
        y = a * 0.2
        y += 0.5
        return bounded(xp, y, 0.0, 1.0)

    return elementwise(xp, hard_sigmoid, x)


@register("agnostic", "hard_sigmoid_backward")
def hard_sigmoid_backward(dy: Array, y: Array) -> Array:
    """Return 0.2 * dy where 0 < y < 1, else 0."""
    xp = array_namespace(dy)

    def gradient(d: Array, y: Array) -> Array:
        factor = xp.astype((y > 0.0) & (y < 1.0), d.dtype)
        factor *= 0.2
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, y)


@register("agnostic", "softsign_forward")
def softsign_forward(x: Array) -> Array:
    """Return x / (1 + |x|)."""
    xp = array_namespace(x)
    largest = float(finfo(xp, x.dtype).max)

    def softsign(a: Array) -> Array:
        a = bounded(xp, a, -largest, largest)  # infinity / infinity is no number
        return a / (xp.abs(a) + 1.0)

    return elementwise(xp, softsign, x)


@register("agnostic", "softsign_backward")
def softsign_backward(dy: Array, y: Array) -> Array:
    """Return dy * (1 - |y|)^2."""
    xp = array_namespace(dy)

    def gradient(d: Array, y: Array) -> Array:
        root = 1.0 - xp.abs(y)
        return d * (root * root)

    return elementwise(xp, gradient, dy, y)
