"""Depthwise convolution by compiled loops: one pass over what is read and what is written."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.cores import threads_allowed
from xpnet.kernels.agnostic import relu
from xpnet.kernels.compiled import loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import depthwise
from xpnet.kernels.numpy.product import row_sums
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, parts_worth, run_all

__all__ = [
    "depthwise_conv2d_backward",
    "depthwise_conv2d_forward",
    "depthwise_conv2d_input_gradient",
    "depthwise_conv2d_relu_forward",
]

Lists = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # places, names, counts, shifts: see `_lists`


def _usable(kernel: str, like: np.ndarray, W: np.ndarray, window: Window) -> bool:
    work = W.size * math.prod(window.output) * len(like)
    return work >= loader.SMALL and loader.usable("_depthwise_loops", kernel, like.dtype)


def _lists(rows: list[list[tuple[int, int]]], most: int, shifts: list[int]) -> Lists:
    """Return the taps of each row, `most` of them at most: where they read in their channel, which they are, how many.

    `shifts` are where in a row the columns of the kernel begin to read.
    """
    places, names = np.zeros((2, len(rows), most), dtype=np.int64)
    for row, taps in enumerate(rows):
        for t, (place, name) in enumerate(taps):
            places[row, t], names[row, t] = place, name
    counts = np.asarray([len(taps) for taps in rows], dtype=np.int64)
    return places.reshape(-1), names.reshape(-1), counts, np.asarray(shifts, dtype=np.int64)


@functools.lru_cache(maxsize=256)
def _reads(window: Window, images: int) -> Lists:
    """Return for each row of the output what the taps read for its first pixel."""
    (H, W), (KH, KW), (down, across) = window.input, window.kernel, window.dilation
    (top, _), (left, _) = window.padding
    shifts = [j * across - left for j in range(KW)]
    rows = []
    for oh in range(window.output[0]):
        seen = [(i, h) for i in range(KH) if 0 <= (h := oh * window.stride[0] - top + i * down) < H]
        rows.append([((h * W + shifts[j]) * images, i * KW + j) for j in range(KW) for i, h in seen])
    return _lists(rows, KH * KW, shifts)


@functools.lru_cache(maxsize=256)
def _readers(window: Window, filters: int, images: int) -> tuple[Lists, np.ndarray]:
    """Return which outputs of `filters` read the first pixel of each row and phase of the stride, and by which taps.

    Behind it, for each phase, how many columns of the kernel meet it.
    """
    (KH, KW), (OH, OW), (step, stride), (down, across) = window.kernel, window.output, window.stride, window.dilation
    (top, _), (left, _) = window.padding
    shifts, met = np.zeros((stride, KW), dtype=np.int64), []
    for phase in range(stride):
        met.append([j for j in range(KW) if (phase + left - j * across) % stride == 0])
        shifts[phase, : len(met[phase])] = [(phase + left - j * across) // stride for j in met[phase]]
    rows = []
    for h in range(window.input[0]):
        ys = [(i, (h + top - i * down) // step) for i in range(KH) if (h + top - i * down) % step == 0]
        ys = [(i, oh) for i, oh in ys if 0 <= oh < OH]
        for phase in range(stride):
            rows.append(
                [
                    (((f * OH + oh) * OW + int(shift)) * images, (f * KH + i) * KW + j)
                    for j, shift in zip(met[phase], shifts[phase], strict=False)
                    for f in range(filters)
                    for i, oh in ys
                ]
            )
    groups = np.asarray([len(columns) for columns in met], dtype=np.int64)
    return _lists(rows, filters * KH * KW, shifts.reshape(-1).tolist()), groups


def _run(kernel: str, arrays: tuple[np.ndarray, ...], given: tuple[Any, ...], factors: int, count: int) -> None:
    """Call a kernel for 0 to `count` on all threads, each with memory of its own for so many `factors`, if any."""
    dtype, most = arrays[0].dtype, max(a.size for a in arrays)
    function = loader.kernel("_depthwise_loops", kernel, dtype)
    *others, geometry = given

    def call(part: slice) -> Callable[[], None]:
        own = [np.empty(factors, dtype)] if factors else []
        return lambda: function(*arrays, *others, *own, geometry, part.start, part.stop)

    run_all([call(part) for part in cut(count, parts_worth(threads_allowed(), count, most))])


def _geometry(window: Window, channels: int, filters: int, images: int) -> tuple[int, ...]:
    return (channels, *window.input, images, filters, *window.output, *window.kernel, window.stride[1])


@register("compiled", "depthwise_conv2d_forward")
def depthwise_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (m*C, 1, KH, KW), groups = C: (N, m*C, OH, OW)."""
    if not _usable("convolve", x, W, window):
        return depthwise.depthwise_conv2d_forward(x, W, b, window, groups)
    return _convolve(x, W, b, window, groups, -np.inf)


@register("compiled", "depthwise_conv2d_relu_forward")
def depthwise_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, m*C, OH, OW)."""
    if not _usable("convolve", x, W, window):
        return relu.depthwise_conv2d_relu_forward(x, W, b, window, groups)
    return _convolve(x, W, b, window, groups, 0.0)


def _convolve(x: Array, W: Array, b: Array | None, window: Window, groups: int, least: float) -> Array:
    F, N = len(W), len(x)
    y = np.empty((F, *window.output, N), dtype=x.dtype)
    bias = np.zeros(F, x.dtype) if b is None else flat(np.ascontiguousarray(b))
    arrays = (flat(batch_innermost(np, x)), flat(W), bias, y.reshape(-1))
    given = (x.dtype.type(least), _reads(window, N), _geometry(window, groups, F, N))
    _run("convolve", arrays, given, math.prod(window.kernel), F)
    return batch_first(np, y)


@register("compiled", "depthwise_conv2d_backward")
def depthwise_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    if not _usable("weight_gradient", x, W, window):
        return depthwise.depthwise_conv2d_backward(dy, x, W, window, groups, need_dx, need_db)
    F, N, inner = len(W), len(x), batch_innermost(np, dy)
    dW = np.zeros(W.shape, dtype=W.dtype)
    arrays = (flat(batch_innermost(np, x)), flat(inner), dW.reshape(-1))
    _run("weight_gradient", arrays, (_reads(window, N), _geometry(window, groups, F, N)), 0, F)
    dx = depthwise_conv2d_input_gradient(batch_first(np, inner), W, window, groups) if need_dx else None
    return dx, dW, row_sums(inner) if need_db else None


@register("compiled", "depthwise_conv2d_input_gradient")
def depthwise_conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, m*C, OH, OW): each pixel gathers from the outputs that read it."""
    if not _usable("input_gradient", dy, W, window):
        return depthwise.depthwise_conv2d_input_gradient(dy, W, window, groups)
    F, N = len(W), len(dy)
    dx = np.empty((groups, *window.input, N), dtype=dy.dtype)
    arrays = (flat(batch_innermost(np, dy)), flat(W), dx.reshape(-1))
    given = (*_readers(window, F // groups, N), _geometry(window, groups, F, N))
    _run("input_gradient", arrays, given, F // groups * math.prod(window.kernel), groups)
    return batch_first(np, dx)
