"""The relu of what a convolution or a dense product has just made, and its gradient with that of the bias."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace, wide_dtype
from xpnet.kernels.geometry import Window
from xpnet.kernels.table import find, register

__all__ = [
    "conv2d_relu_forward",
    "depthwise_conv2d_relu_forward",
    "linear_relu_forward",
    "relu_bias_backward",
    "winograd_conv2d_relu_forward",
]


@register("agnostic", "relu_bias_backward")
def relu_bias_backward(dy: Array, y: Array, need_db: bool, overwrite: bool) -> tuple[Array, Array | None]:
    """Return dx = dy where y > 0, else 0, and if needed its sum over all axes but the second: that of a bias.

    With `overwrite`, a library may put dx where dy is. A library that sums more cheaply along with the gradient of the
    weights may return None for the sum.
    """
    xp = array_namespace(dy)
    dx = find("relu_backward", xp)(dy, y, overwrite)
    if not need_db:
        return dx, None
    axes = (0, *range(2, len(dx.shape)))
    return dx, xp.astype(xp.sum(dx, axis=axes, dtype=wide_dtype(xp, dx.dtype)), dx.dtype, copy=False)


@register("agnostic", "linear_relu_forward")
def linear_relu_forward(x: Array, W: Array, b: Array | None) -> Array:
    """Return relu(x @ W + b), (N, O)."""
    xp = array_namespace(x)
    return find("relu_forward", xp)(find("linear_forward", xp)(x, W, b), True)


@register("agnostic", "conv2d_relu_forward")
def conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW)."""
    return _rectified("conv2d_forward", x, W, b, window, groups)


@register("agnostic", "winograd_conv2d_relu_forward")
def winograd_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW), by Winograd's tiles."""
    return _rectified("winograd_conv2d_forward", x, W, b, window, groups)


@register("agnostic", "depthwise_conv2d_relu_forward")
def depthwise_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW), of groups of one channel."""
    return _rectified("depthwise_conv2d_forward", x, W, b, window, groups)


def _rectified(name: str, x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    xp = array_namespace(x)
    return find("relu_forward", xp)(find(name, xp)(x, W, b, window, groups), True)
