"""The dense product by torch; the gradient of its input lies row by row, which to a Flatten before it is NCHW."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["linear_forward", "linear_input_gradient"]


@register("torch", "linear_forward")
def linear_forward(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W + b of x (N, I), W (I, O)."""
    return torch.mm(x, W) if b is None else torch.addmm(b, x, W)


@register("torch", "linear_input_gradient")
def linear_input_gradient(dy: Array, W: Array) -> Array:
    """dy @ W^T."""
    return torch.mm(dy, W.t())
