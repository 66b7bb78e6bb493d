"""The book's activations and the sum of branches for CuPy: each one launch, in the memory order of images."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import each_element, packed, unpacked
from xpnet.kernels.table import register

__all__ = [
    "add",
    "add_relu",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
]


@register("cupy", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, where x is."""
    return each_element("activation", "relu", x, overwrite=overwrite)


@register("cupy", "relu_backward")
def relu_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy where y > 0, else 0; with `overwrite`, where dy is."""
    return each_element("activation", "relu_gradient", dy, y, overwrite=overwrite)


@register("cupy", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, where x is."""
    return each_element("activation", "sigmoid", x, overwrite=overwrite)


@register("cupy", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * y * (1 - y); with `overwrite`, where dy is."""
    return each_element("activation", "sigmoid_gradient", dy, y, overwrite=overwrite)


@register("cupy", "tanh_backward")
def tanh_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * (1 - y^2); with `overwrite`, where dy is."""
    return each_element("activation", "tanh_gradient", dy, y, overwrite=overwrite)


@register("cupy", "add")
def add(a: Array, b: Array, overwrite: bool) -> Array:
    """Return a + b, where a is with `overwrite`; of images batch-innermost, where CuPy itself would choose NCHW."""
    first, second = packed(a), packed(b)
    if overwrite:
        first += second
    return unpacked(first if overwrite else first + second)


@register("cupy", "add_relu")
def add_relu(a: Array, b: Array, overwrite: bool) -> Array:
    """Return relu(a + b); with `overwrite`, where a is."""
    return each_element("activation", "add_relu", a, b, overwrite=overwrite)
