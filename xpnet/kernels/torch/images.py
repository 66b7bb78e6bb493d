"""The memory orders that torch's own operations are made for."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["image_order", "images", "ordered_as", "weight_order"]


@register("torch", "image_order")
def image_order() -> tuple[int, int, int, int]:
    """Return the axes of images (N, C, H, W) in the order in which a library's kernels like them in memory."""
    return (0, 2, 3, 1)


@register("torch", "weight_order")
def weight_order() -> tuple[int, int, int, int]:
    """Return the axes of a convolution's weights (F, C, KH, KW) in the order in which they are to lie in memory."""
    return image_order()


def images(x: Array) -> Array:
    """Return images (N, C, H, W) in channels_last or NCHW order: as they are, or else copied to channels_last.

    Torch keeps either order from layer to layer, so only what comes in is copied. It tells the two apart by the
    strides of axes of size 1 as well, which a view may have got from anywhere; those are set. With that of a single
    image as it came, batch normalisation took a gradient in the other order for one in this.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        N, C, H, W = x.shape
        strides = (C * H * W, 1, W * C, C)
        return x if x.stride() == strides else x.as_strided((N, C, H, W), strides)
    return x if x.is_contiguous() else x.contiguous(memory_format=torch.channels_last)


def ordered_as(like: Array, x: Array) -> Array:
    """Return images `x` in the memory order of `like`, as a gradient that comes from a dense layer is not."""
    if x.ndim != 4 or x.stride() == like.stride():
        return x
    if like.is_contiguous():
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)
