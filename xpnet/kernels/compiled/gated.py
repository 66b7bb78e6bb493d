"""Activations of the form x times a smooth gate by compiled loops, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import gated
from xpnet.kernels.compiled.each_element import applied
from xpnet.kernels.table import register

__all__ = ["gelu_backward", "gelu_forward", "mish_backward", "mish_forward", "silu_backward", "silu_forward"]

WORK = 8  # what an element is worth beside one that is read and written


def _applied(kernel: str, arrays: tuple[np.ndarray, ...], otherwise: Callable[..., Any], *more: Any) -> np.ndarray:
    """Return what a kernel makes of arrays, or what another function makes of them if it cannot."""
    made = applied("_gated_loops", kernel, arrays, WORK)
    return otherwise(*arrays, *more) if made is None else made


@register("compiled", "silu_forward")
def silu_forward(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return _applied("silu", (x,), gated.silu_forward)


@register("compiled", "silu_backward")
def silu_backward(dy: Array, x: Array) -> Array:
    """Return dy * s * (1 + x * (1 - s)) with s = sigmoid(x)."""
    return _applied("silu_gradient", (dy, x), gated.silu_backward)


@register("compiled", "gelu_forward")
def gelu_forward(x: Array, approximate: str) -> Array:
    """Return x * P(X < x) for a standard normal X, "none" or by "tanh"."""
    return _applied(f"gelu_{approximate}", (x,), gated.gelu_forward, approximate)


@register("compiled", "gelu_backward")
def gelu_backward(dy: Array, x: Array, approximate: str) -> Array:
    """Return dy * (gate + x * d gate / dx), where y = x * gate."""
    return _applied(f"gelu_{approximate}_gradient", (dy, x), gated.gelu_backward, approximate)


@register("compiled", "mish_forward")
def mish_forward(x: Array) -> Array:
    """Return x * tanh(log(1 + exp(x)))."""
    return _applied("mish", (x,), gated.mish_forward)


@register("compiled", "mish_backward")
def mish_backward(dy: Array, x: Array) -> Array:
    """Return the gradient of `mish_forward`."""
    return _applied("mish_gradient", (dy, x), gated.mish_backward)
