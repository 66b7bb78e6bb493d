"""The book's activations and the sum of branches for CuPy: each one launch, in the memory order of images."""

from __future__ import annotations

import cupy

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import launch, packed, unpacked
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


def _forward(name: str, x: Array, overwrite: bool) -> Array:
    given = packed(x)
    y = given if overwrite else cupy.empty_like(given)
    if y.size:
        launch("activation", name, y, y.size, given, y, y.size)
    return unpacked(y)


def _backward(name: str, dy: Array, y: Array, overwrite: bool) -> Array:
    gradient = packed(dy)
    dx = gradient if overwrite else cupy.empty_like(gradient)
    if dx.size:
        launch("activation", name, dx, dx.size, gradient, packed(y), dx, dx.size)
    return unpacked(dx)


@register("cupy", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, where x is."""
    return _forward("relu", x, overwrite)


@register("cupy", "relu_backward")
def relu_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy where y > 0, else 0; with `overwrite`, where dy is."""
    return _backward("relu_gradient", dy, y, overwrite)


@register("cupy", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, where x is."""
    return _forward("sigmoid", x, overwrite)


@register("cupy", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * y * (1 - y); with `overwrite`, where dy is."""
    return _backward("sigmoid_gradient", dy, y, overwrite)


@register("cupy", "tanh_backward")
def tanh_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * (1 - y^2); with `overwrite`, where dy is."""
    return _backward("tanh_gradient", dy, y, overwrite)


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
    first, second = packed(a), packed(b)
    y = first if overwrite else cupy.empty_like(first)
    if y.size:
        launch("activation", "add_relu", y, y.size, first, second, y, y.size)
    return unpacked(y)
