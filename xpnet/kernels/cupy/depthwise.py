"""Depthwise convolution for CuPy: by cuDNN where it is used, else tap by tap as on any library."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.kernels.agnostic import depthwise
from xpnet.kernels.cupy import cudnn
from xpnet.kernels.cupy.bias import bias_gradient, with_bias
from xpnet.kernels.cupy.launch import innermost, unpacked
from xpnet.kernels.geometry import Window
from xpnet.kernels.table import register

__all__ = ["depthwise_conv2d_backward", "depthwise_conv2d_forward", "depthwise_conv2d_input_gradient"]


@register("cupy", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (m*C, 1, KH, KW), groups = C: (N, m*C, OH, OW)."""
    y = cudnn.forward(innermost(x), W, window)
    return depthwise.depthwise_conv2d_forward(x, W, b, window, groups) if y is None else with_bias(y, b, False)


@register("cupy", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, m*C, OH, OW)."""
    dx = cudnn.input_gradient(innermost(dy), W, window, groups)
    return depthwise.depthwise_conv2d_input_gradient(dy, W, window, groups) if dx is None else unpacked(dx)


@register("cupy", "depthwise_conv2d_backward")
def depthwise_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    gradient = innermost(dy)
    dW = cudnn.weight_gradient(gradient, innermost(x), tuple(W.shape), window)
    if dW is None:
        return depthwise.depthwise_conv2d_backward(dy, x, W, window, groups, need_dx, need_db)
    dx = depthwise_conv2d_input_gradient(dy, W, window, groups) if need_dx else None
    return dx, dW, bias_gradient(gradient) if need_db else None
