"""Convolution by torch, for every window: padding that differs between the sides is made part of the image."""

from __future__ import annotations

import functools
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


@functools.lru_cache(maxsize=256)
def _as_torch_reads(window: Window) -> Window:
    """Return the same window with a stride of 1 where it has a single output, which then says nothing.

    Of images with one channel torch 2.13 (oneDNN, channels_last) gives numbers of any size where the stride is of
    columns alone and there is one column of the output.
    """
    (OH, OW), (down, across) = window.output, window.stride
    return window._replace(stride=(1 if OH == 1 else down, 1 if OW == 1 else across))


@functools.lru_cache(maxsize=256)
def _margins(window: Window) -> list[int] | None:
    """Return what to add around the image, [left, right, top, bottom], where torch cannot do it: else None.

    That is padding which is not the same on both sides, or so wide that a window may see nothing else, where oneDNN
    ends the process, or that with a stride a tap may, whose weight gradient it leaves as it finds it in bfloat16; and
    where a transposed convolution has enlarged its output by more than a stride, rows that would make another window:
    they are taken off.
    """
    (top, bottom), (left, right) = window.padding
    rows, columns = _rest(window)
    seen = all(p <= d * (k - 1) for p, d, k in zip((top, left), window.dilation, window.kernel, strict=True))
    if max(window.stride) > 1:
        seen = seen and all(_sees(tap.out_rows) and _sees(tap.out_columns) for tap in window.taps())
    if seen and (top, left) == (bottom, right) and rows < window.stride[0] and columns < window.stride[1]:
        return None
    return [left, right - columns, top, bottom - rows]


def _sees(outputs: slice) -> bool:
    return outputs.start < outputs.stop


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

    16->16 channels, 3x3, 32x32, batch 64 took 5.2 ms so, and 8.0 ms with images alone in channels_last. A single filter
    may have got any stride over filters from a view, for which torch has no weight gradient.
    """
    W = W if W.is_contiguous() else images(W)
    return W if image.is_contiguous() else W.contiguous(memory_format=torch.channels_last)


@register("torch", "depthwise_conv2d_forward")
@register("torch", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    window = _as_torch_reads(window)
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
    window = _as_torch_reads(window)
    if window.kernel == (1, 1) and max(window.stride) > 1 and x.shape[1] // groups < 8 and not x.is_cuda:
        return _pointwise_backward(dy, x, W, window, groups, need_dx, need_db)
    image, padding = _pad(x, window)
    dy, W = images(dy), _beside(image, W)
    settings: Any = [window.stride, padding, window.dilation, False, [0, 0], groups, [need_dx, True, need_db]]
    dx, dW, db = _convolution_backward(dy, image, W, [W.shape[0]] if need_db else None, *settings)
    return _unpad(dx, window) if need_dx else None, dW, db


def _pointwise_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return the gradients of 1x1 kernels with a stride by those without, of the pixels that are looked at.

    With 1 to 7 channels torch 2.13 (oneDNN, channels_last) gets the weight gradient wrong, by up to its own size and
    otherwise in every run, and damages the heap.
    """
    (top, bottom), (left, right) = window.padding
    image = torch.constant_pad_nd(images(x), [left, right, top, bottom])
    rows, columns = (slice(0, (n - 1) * s + 1, s) for n, s in zip(window.output, window.stride, strict=True))
    seen = image[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
    plain = Window(window.output, window.output, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    d_seen, dW, db = conv2d_backward(dy, seen, W, plain, groups, need_dx, need_db)
    if not need_dx:
        return None, dW, db
    dx = torch.zeros_like(image)
    dx[:, :, rows, columns] = d_seen
    return dx[:, :, top : top + window.input[0], left : left + window.input[1]], dW, db


@register("torch", "depthwise_conv2d_input_gradient")
@register("torch", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: the forward of a transposed convolution."""
    window = _as_torch_reads(window)
    if _margins(window) is None:
        padding, rest = [window.padding[0][0], window.padding[1][0]], _rest(window)
    else:
        padding, rest = [0, 0], [0, 0]
    dy = images(dy)
    dx = torch.convolution(dy, _beside(dy, W), None, window.stride, padding, window.dilation, True, rest, groups)
    return _unpad(dx, window)
