"""Activations and sums by torch, each one pass; they keep the memory order of what they are given."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register
from xpnet.kernels.torch.images import ordered_as

__all__ = [
    "add",
    "relu_backward",
    "relu_bias_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
]

# unlike threshold_backward it passes nothing where y is NaN
_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def _result(dy: Array, overwrite: bool) -> Array:
    return dy if overwrite else torch.empty_like(dy)


@register("torch", "add")
def add(a: Array, b: Array, overwrite: bool) -> Array:
    """Return a + b of arrays of one shape; with `overwrite`, where a is."""
    return a.add_(b) if overwrite else a + b


@register("torch", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, where x is: half the time, mostly that of fresh memory."""
    return torch.relu_(x) if overwrite else torch.relu(x)


@register("torch", "relu_backward")
def relu_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy where y > 0, else 0; with `overwrite`, where dy is."""
    dy = ordered_as(y, dy)
    return _relu_backward(dy, y, 0.0, True, grad_input=_result(dy, overwrite))


@register("torch", "relu_bias_backward")
def relu_bias_backward(dy: Array, y: Array, need_db: bool, overwrite: bool) -> tuple[Array, None]:
    """Return dx = dy where y > 0, else 0, and None: torch sums for a bias along with the gradient of the weights."""
    return relu_backward(dy, y, overwrite), None


@register("torch", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, where x is."""
    return torch.sigmoid_(x) if overwrite else torch.sigmoid(x)


@register("torch", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * y * (1 - y); with `overwrite`, where dy is."""
    dy = ordered_as(y, dy)
    return _sigmoid_backward(dy, y, grad_input=_result(dy, overwrite))


@register("torch", "tanh_backward")
def tanh_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * (1 - y^2); with `overwrite`, where dy is."""
    dy = ordered_as(y, dy)
    return _tanh_backward(dy, y, grad_input=_result(dy, overwrite))
