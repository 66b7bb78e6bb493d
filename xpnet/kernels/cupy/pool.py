"""Pooling for CuPy: one launch each way. Backward is gathered by the pixels, so its results repeat to the bit."""

from __future__ import annotations

import cupy

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import innermost, launch, window_argument
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["pool2d_backward", "pool2d_forward"]


@register("cupy", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, None]:
    """Pool x (N, C, H, W) to (N, C, OH, OW); `mode` is "max" or "average"."""
    inner = innermost(x)
    N = inner.shape[3]
    y = cupy.empty((inner.shape[0], *window.output, N), dtype=x.dtype)
    like = inner if inner.size > y.size else y
    more = () if mode == "max" else (bool(count_include_pad),)
    launch("pool", f"{mode}_pool_forward", like, y.size, inner, y, window_argument(window), N, y.size, *more)
    return batch_first(cupy, y), None


@register("cupy", "pool2d_backward")
def pool2d_backward(
    dy: Array, x: Array | None, y: Array, places: Array | None, window: Window, mode: str, count_include_pad: bool
) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    gradient = innermost(dy)
    N = gradient.shape[3]
    dx = cupy.empty((gradient.shape[0], *window.input, N), dtype=dy.dtype)
    like = gradient if gradient.size > dx.size else dx
    shape = (window_argument(window), N, dx.size)
    if mode == "average":
        launch("pool", "average_pool_backward", like, dx.size, gradient, dx, *shape, bool(count_include_pad))
    else:
        inner, top = innermost(x), innermost(y)
        launch("pool", "max_pool_backward", like, dx.size, gradient, inner, top, dx, *shape)
    return batch_first(cupy, dx)
