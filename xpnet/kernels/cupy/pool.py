"""Pooling for CuPy: one launch each way. Backward is gathered by the pixels, so its results repeat to the bit."""

from __future__ import annotations

import cupy

from xpnet.backend import Array
from xpnet.kernels.agnostic import bin_pool
from xpnet.kernels.cupy.launch import innermost, launch, window_argument
from xpnet.kernels.geometry import Pair, Window
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["bin_pool2d_backward", "bin_pool2d_forward", "pool2d_backward", "pool2d_forward"]


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


@register("cupy", "bin_pool2d_forward")
def bin_pool2d_forward(x: Array, size: Pair, mode: str, p: float) -> Array:
    """Pool x (N, C, H, W) to bins (N, C, OH, OW), of which `size` is (OH, OW); `mode` is "max", "average" or "lp"."""
    if mode == "lp":
        return bin_pool.bin_pool2d_forward(x, size, mode, p)
    inner = innermost(x)
    C, H, W_, N = inner.shape
    y = cupy.empty((C, *size, N), dtype=x.dtype)
    like = inner if inner.size > y.size else y
    launch("bin_pool", f"bin_{mode}_forward", like, y.size, inner, y, H, W_, *size, N, y.size)
    return batch_first(cupy, y)


@register("cupy", "bin_pool2d_backward")
def bin_pool2d_backward(dy: Array, x: Array | None, y: Array, shape: tuple[int, ...], mode: str, p: float) -> Array:
    """Return dx of the `shape` (N, C, H, W) of the input; `x` is None with "average"."""
    if mode == "lp":
        return bin_pool.bin_pool2d_backward(dy, x, y, shape, mode, p)
    gradient, (N, C, H, W_) = innermost(dy), shape
    dx = cupy.empty((C, H, W_, N), dtype=dy.dtype)
    like = gradient if gradient.size > dx.size else dx
    given = (gradient,) if mode == "average" else (gradient, innermost(x), innermost(y))
    launch("bin_pool", f"bin_{mode}_backward", like, dx.size, *given, dx, H, W_, *y.shape[2:], N, dx.size)
    return batch_first(cupy, dx)
