"""Pooling by torch, where its rules for padding allow; the standard-only kernels do the rest."""

from __future__ import annotations

import functools
from typing import Any

import torch

from xpnet.backend import Array
from xpnet.kernels.agnostic import bin_pool, pool
from xpnet.kernels.geometry import Pair, Window
from xpnet.kernels.table import register
from xpnet.kernels.torch.images import images

__all__ = [
    "bin_pool2d_backward",
    "bin_pool2d_forward",
    "pool2d_backward",
    "pool2d_forward",
    "pool2d_inference",
]

CHANNELS = 64  # from which torch's maximum pooling is as fast as slices

_max_forward = torch.ops.aten.max_pool2d_with_indices.default
_max_backward = torch.ops.aten.max_pool2d_with_indices_backward.default
_average_backward = torch.ops.aten.avg_pool2d_backward.default


@functools.lru_cache(maxsize=256)
def _settings(window: Window, mode: str) -> tuple[Any, ...] | None:
    """Return a window as torch's pooling takes it; None if torch has no such windows.

    It has padding equal on both sides and at most half a kernel.
    """
    even = all(a == b and 2 * a <= k for (a, b), k in zip(window.padding, window.kernel, strict=True))
    if not even or (mode != "max" and window.dilation != (1, 1)):
        return None
    dilation = (window.dilation,) if mode == "max" else ()
    return window.kernel, window.stride, (window.padding[0][0], window.padding[1][0]), *dilation, window.overhangs


def _subsamples(window: Window) -> bool:
    """Whether windows are single pixels, as in a shortcut without weights: then pooling is taking some of them."""
    return window.kernel == (1, 1) and window.padding == ((0, 0), (0, 0)) and min(window.stride) > 1


def _order(image: Array) -> torch.memory_format:
    return torch.contiguous_format if image.is_contiguous() else torch.channels_last


def _looked_at(image: Array, window: Window) -> Array:
    rows, columns = (slice(0, (n - 1) * s + 1, s) for n, s in zip(window.output, window.stride, strict=True))
    return image[:, :, rows, columns]


@register("torch", "pool2d_forward")
def pool2d_forward(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """Pool x (N, C, H, W) to (N, C, OH, OW), "max" or "average"; for backward, note where the maxima are."""
    if _subsamples(window):
        image = images(x)
        return _looked_at(image, window).contiguous(memory_format=_order(image)), None
    settings = _settings(window, mode)
    if settings is None:
        return pool.pool2d_forward(x, window, mode, count_include_pad)
    if mode == "max":
        return _max_forward(images(x), *settings)
    return torch.nn.functional.avg_pool2d(images(x), *settings, count_include_pad), None


@register("torch", "pool2d_inference")
def pool2d_inference(x: Array, window: Window, mode: str, count_include_pad: bool) -> tuple[Array, Array | None]:
    """As `pool2d_forward`, without a note of where the maxima are: of 2x2 pixels by comparing slices.

    With few channels torch's own leaves most of its vectors empty: 6 channels, 24x24, batch 64 took 0.87 ms and
    slices 0.22, 64 channels the same; in NCHW order 1.56 and 0.24.
    """
    image = images(x)
    if x.is_cuda or mode != "max" or not window.is_halving or (x.shape[1] >= CHANNELS and not image.is_contiguous()):
        return pool2d_forward(x, window, mode, count_include_pad)[0], None
    OH, OW = window.output
    rows = torch.maximum(image[:, :, 0 : 2 * OH : 2], image[:, :, 1 : 2 * OH : 2])  # first, as they lie in one piece
    return torch.maximum(rows[..., 0 : 2 * OW : 2], rows[..., 1 : 2 * OW : 2]), None


@register("torch", "pool2d_backward")
def pool2d_backward(
    dy: Array, x: Array | None, y: Array, places: Array | None, window: Window, mode: str, count_include_pad: bool
) -> Array:
    """Return dx: the first maximum of a window gets all of its gradient, an average shares it; then x is None."""
    if _subsamples(window):
        dy = images(dy)
        shape, place = (*dy.shape[:2], *window.input), {"dtype": dy.dtype, "device": dy.device}
        dx = torch.empty(shape, memory_format=_order(dy), **place).zero_()
        _looked_at(dx, window).copy_(dy)
        return dx
    # on a GPU, torch's would add where windows overlap in an order that changes from run to run
    settings = _settings(window, mode)
    if settings is None or (dy.is_cuda and not window.is_apart):
        return pool.pool2d_backward(dy, x, y, None, window, mode, count_include_pad)
    if mode == "max" and places is None:
        places = pool2d_forward(x, window, mode, count_include_pad)[1]
    dy = images(dy)
    if x is None:
        like = torch.empty_like(dy[:, :, :1, :1]).expand(*dy.shape[:2], *window.input)
        return _average_backward(dy, like, *settings, count_include_pad, None)
    return _max_backward(dy, images(x), *settings, places)


@register("torch", "bin_pool2d_forward")
def bin_pool2d_forward(x: Array, size: Pair, mode: str, p: float) -> Array:
    """Pool x (N, C, H, W) to bins (N, C, OH, OW), of which `size` is (OH, OW); `mode` is "max", "average" or "lp"."""
    if mode == "average" and size == (1, 1):
        return torch.mean(x, (2, 3), keepdim=True)
    return bin_pool.bin_pool2d_forward(x, size, mode, p)


@register("torch", "bin_pool2d_backward")
def bin_pool2d_backward(dy: Array, x: Array | None, y: Array, shape: tuple[int, ...], mode: str, p: float) -> Array:
    """Return dx of the `shape` (N, C, H, W) of the input; `x` is None with "average"."""
    if mode == "average" and tuple(y.shape[2:]) == (1, 1):
        share = dy / (shape[2] * shape[3])
        return share.expand(shape).contiguous(memory_format=torch.channels_last)
    return bin_pool.bin_pool2d_backward(dy, x, y, shape, mode, p)
