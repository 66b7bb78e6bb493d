"""Convolution by torch, for every window: padding that differs between the sides is made part of the image."""

from __future__ import annotations

from typing import Any

import torch

from xpnet.backend import Array
from xpnet.kernels.geometry import Window
from xpnet.kernels.table import register
from xpnet.kernels.torch.images import images

__all__ = ["conv2d_backward", "conv2d_forward", "conv2d_input_gradient"]

_convolution_backward = torch.ops.aten.convolution_backward.default


def _rest(window: Window) -> list[int]:
    """Return how many rows and columns of image and padding come after all that windows read."""
    return [
        n + sum(p) - (o - 1) * s - d * (k - 1) - 1
        for n, o, k, s, p, d in zip(
            window.input, window.output, window.kernel, window.stride, window.padding, window.dilation, strict=True
        )
    ]


def _margins(window: Window) -> list[int] | None:
    """Return what to add around the image, [left, right, top, bottom], where torch cannot do it: else None.

    That is padding which is not the same on both sides, and where a transposed convolution has enlarged its
    output by more than a stride, rows that would make another window: they are taken off.
    """
    (top, bottom), (left, right) = window.padding
    rows, columns = _rest(window)
    if (top, left) == (bottom, right) and rows < window.stride[0] and columns < window.stride[1]:
        return None
    return [left, right - columns, top, bottom - rows]


def _pad(x: Array, window: Window) -> tuple[Array, list[int]]:
    """Return the image with its margins, and the padding that is left for torch to add."""
    margins = _margins(window)
    if margins is None:
        return images(x), [window.padding[0][0], window.padding[1][0]]
    return torch.constant_pad_nd(images(x), margins), [0, 0]


def _unpad(dx: Array, window: Window) -> Array:
    """Return the image's part of the gradient of what `_pad` has made; what was taken off there is 0."""
    margins = _margins(window)
    return dx if margins is None else torch.constant_pad_nd(dx, [-n for n in margins])


def _beside(image: Array, W: Array) -> Array:
    """Return the weights in the memory order of the image; torch (oneDNN) else chose worse for 16 channels.

    16->16 channels, 3x3, 32x32, batch 64 took 5.2 ms so, and 8.0 ms with images alone in channels_last.
    """
    return W if image.is_contiguous() else W.contiguous(memory_format=torch.channels_last)


def _is_wrong_in_channels_last(image: Array, window: Window, groups: int) -> bool:
    """Whether torch 2.13 (oneDNN) would get the weight gradient wrong: 1x1 with a stride, of 2 to 7 channels.

    By up to its own size, from run to run another, and it has been seen to damage the heap; in NCHW order it is right.
    """
    few = image.shape[1] // groups < 8
    return window.kernel == (1, 1) and max(window.stride) > 1 and few and not image.is_cuda


@register("torch", "depthwise_conv2d_forward")
@register("torch", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    image, padding = _pad(x, window)
    return torch.convolution(
        image, _beside(image, W), b, window.stride, padding, window.dilation, False, [0, 0], groups
    )


@register("torch", "depthwise_conv2d_backward")
@register("torch", "conv2d_backward")
def conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    image, padding = _pad(x, window)
    if _is_wrong_in_channels_last(image, window, groups):
        image = image.contiguous()
    dy, W = images(dy), _beside(image, W)
    settings: Any = [window.stride, padding, window.dilation, False, [0, 0], groups, [need_dx, True, need_db]]
    dx, dW, db = _convolution_backward(dy, image, W, [W.shape[0]] if need_db else None, *settings)
    return _unpad(dx, window) if need_dx else None, dW, db


@register("torch", "depthwise_conv2d_input_gradient")
@register("torch", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: the forward of a transposed convolution."""
    if _margins(window) is None:
        padding, rest = [window.padding[0][0], window.padding[1][0]], _rest(window)
    else:
        padding, rest = [0, 0], [0, 0]
    dy = images(dy)
    dx = torch.convolution(dy, _beside(dy, W), None, window.stride, padding, window.dilation, True, rest, groups)
    return _unpad(dx, window)
