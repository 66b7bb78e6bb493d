"""Depthwise convolution for NumPy."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import conv, depthwise
from xpnet.kernels.geometry import Window
from xpnet.kernels.table import register

__all__ = ["depthwise_conv2d_forward", "depthwise_conv2d_input_gradient", "row_dots"]


@register("numpy", "row_dots")
def row_dots(a: Array, b: Array) -> Array:
    """Sum a * b over all axes but the first, without an array of the products."""
    axes = "abcdefg"[: a.ndim]
    return np.einsum(f"{axes},{axes}->a", a, b, dtype=wide_dtype(np, a.dtype))


@register("numpy", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve by columns: BLAS adds up the taps of a block in one pass, where NumPy takes five for each tap."""
    return conv.conv2d_forward(x, W, b, window, groups)


@register("numpy", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx: with stride 1 a convolution by columns again; otherwise columns would be made to be scattered."""
    if window.stride == (1, 1):
        return conv.conv2d_input_gradient(dy, W, window, groups)
    return depthwise.depthwise_conv2d_input_gradient(dy, W, window, groups)
