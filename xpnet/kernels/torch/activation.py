"""Activations by torch, each one pass; they keep the memory order of what they are given."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register
from xpnet.kernels.torch.images import ordered_as

__all__ = ["relu_backward", "relu_forward", "sigmoid_backward", "sigmoid_forward", "tanh_backward"]

# unlike threshold_backward it passes nothing where y is NaN
_relu_backward = torch.ops.aten.leaky_relu_backward.default
_sigmoid_backward = torch.ops.aten.sigmoid_backward.default
_tanh_backward = torch.ops.aten.tanh_backward.default


@register("torch", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, where x is: half the time, mostly that of fresh memory."""
    return torch.relu_(x) if overwrite else torch.relu(x)


@register("torch", "relu_backward")
def relu_backward(dy: Array, y: Array) -> Array:
    """Return dy where y > 0, else 0."""
    return _relu_backward(ordered_as(y, dy), y, 0.0, True)


@register("torch", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, where x is."""
    return torch.sigmoid_(x) if overwrite else torch.sigmoid(x)


@register("torch", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array) -> Array:
    """Return dy * y * (1 - y)."""
    return _sigmoid_backward(ordered_as(y, dy), y)


@register("torch", "tanh_backward")
def tanh_backward(dy: Array, y: Array) -> Array:
    """Return dy * (1 - y^2)."""
    return _tanh_backward(ordered_as(y, dy), y)
