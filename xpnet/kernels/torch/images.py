"""The memory orders that torch's own operations are made for."""

from __future__ import annotations

import torch

from xpnet.backend import Array

__all__ = ["images"]


def images(x: Array) -> Array:
    """Return images (N, C, H, W) in channels_last or NCHW order: as they are, or else copied to channels_last.

    Torch keeps either order from layer to layer, so only what comes in is copied. It tells the two apart by the
    strides of axes of size 1 as well, which a view may have got from anywhere; those are set.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        N, C, H, W = x.shape
        return x if x.stride(1) == 1 else x.as_strided((N, C, H, W), (C * H * W, 1, W * C, C))
    return x if x.is_contiguous() else x.contiguous(memory_format=torch.channels_last)
