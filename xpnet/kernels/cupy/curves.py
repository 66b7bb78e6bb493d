"""Activations whose gradient is had from the output, and prelu, for CuPy: each one launch; prelu's gradient two."""

from __future__ import annotations

import math

import cupy

from xpnet.backend import Array
from xpnet.kernels.agnostic import curves
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import each_element, launch, launch_sums, packed, unpacked
from xpnet.kernels.table import register

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


@register("cupy", "leaky_relu_forward")
def leaky_relu_forward(x: Array, slope: float) -> Array:
    """Return x where x > 0, else slope * x."""
    return each_element("curves", "leaky_relu", x, numbers=(slope,))


@register("cupy", "leaky_relu_backward")
def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """Return dy where y > 0, else slope * dy."""
    return each_element("curves", "leaky_relu_gradient", dy, y, numbers=(slope,))


@register("cupy", "elu_forward")
def elu_forward(x: Array, above: float, below: float) -> Array:
    """Return above * x where x > 0, else below * (exp(x) - 1): elu, and selu."""
    return each_element("curves", "elu", x, numbers=(above, below))


@register("cupy", "elu_backward")
def elu_backward(dy: Array, y: Array, above: float, below: float) -> Array:
    """Return dy times above where y > 0, else times y + below."""
    return each_element("curves", "elu_gradient", dy, y, numbers=(above, below))


@register("cupy", "softplus_forward")
def softplus_forward(x: Array) -> Array:
    """Return log(1 + exp(x)), as log(1 + exp(-|x|)) + max(x, 0)."""
    return each_element("curves", "softplus", x)


@register("cupy", "softplus_backward")
def softplus_backward(dy: Array, y: Array) -> Array:
    """Return dy * (1 - exp(-y))."""
    return each_element("curves", "softplus_gradient", dy, y)


@register("cupy", "exponential_forward")
def exponential_forward(x: Array) -> Array:
    """Return exp(x)."""
    return each_element("curves", "exponential", x)


@register("cupy", "relu6_forward")
def relu6_forward(x: Array) -> Array:
    """Return min(max(x, 0), 6)."""
    return each_element("curves", "ramp", x, numbers=(1.0, 0.0, 6.0))


@register("cupy", "relu6_backward")
def relu6_backward(dy: Array, y: Array) -> Array:
    """Return dy where 0 < y < 6, else 0."""
    return each_element("curves", "ramp_gradient", dy, y, numbers=(1.0, 6.0))


@register("cupy", "hard_sigmoid_forward")
def hard_sigmoid_forward(x: Array) -> Array:
    """Return min(max(0.2 x + 0.5, 0), 1)."""
    return each_element("curves", "ramp", x, numbers=(0.2, 0.5, 1.0))


@register("cupy", "hard_sigmoid_backward")
def hard_sigmoid_backward(dy: Array, y: Array) -> Array:
    """Return 0.2 * dy where 0 < y < 1, else 0."""
    return each_element("curves", "ramp_gradient", dy, y, numbers=(0.2, 1.0))


@register("cupy", "softsign_forward")
def softsign_forward(x: Array) -> Array:
    """Return x / (1 + |x|)."""
    return each_element("curves", "softsign", x)


@register("cupy", "softsign_backward")
def softsign_backward(dy: Array, y: Array) -> Array:
    """Return dy * (1 - |y|)^2."""
    return each_element("curves", "softsign_gradient", dy, y)


def _inner(x: Array, slopes: int) -> int:
    """Return after how many elements of a packed array `x` another slope holds."""
    if slopes == 1:
        return x.size
    return math.prod(x.shape[1 if x.ndim == 4 else 2 :])


@register("cupy", "prelu_forward")
def prelu_forward(x: Array, slope: Array) -> Array:
    """Return x where x > 0, else slope * x, the slopes (1,) or (C,) going with axis 1."""
    given, slope = packed(x), cupy.ascontiguousarray(slope)
    y = cupy.empty_like(given)
    if y.size:
        launch("curves", "prelu", y, y.size, given, slope, y, _inner(given, slope.size), slope.size, y.size)
    return unpacked(y)


@register("cupy", "prelu_backward")
def prelu_backward(dy: Array, x: Array, slope: Array) -> tuple[Array, Array]:
    """Return dx and dslope, the sum of dy * min(x, 0) over all that has the slope."""
    if not dy.size:
        return curves.prelu_backward(dy, x, slope)
    gradient, given, slope = packed(dy), packed(x), cupy.ascontiguousarray(slope)
    dx, dslope = cupy.empty_like(given), cupy.empty_like(slope)
    before = (gradient, given, slope, dx, _inner(given, slope.size), slope.size)
    length = dx.size // slope.size
    launch_sums("curves", "prelu_gradient", dslope, length, before, (length,), is_wide(dx.size))
    return unpacked(dx), dslope
