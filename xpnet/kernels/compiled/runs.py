"""Loops over runs of pixels: where the taps of a row read, worked out once for a window, and the loops' call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.cores import threads_allowed
from xpnet.kernels.compiled import loader
from xpnet.kernels.geometry import Window
from xpnet.kernels.team import cut, parts_worth, run_all

__all__ = ["are_long", "geometry_of", "readers", "reads", "run"]

LINE = 64  # bytes of a row of the output from which on runs were no slower than NumPy's passes

Lists = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # places, names, counts, shifts: see `_lists`


def are_long(window: Window, like: np.ndarray) -> bool:
    """Whether rows of the output, of all images together, are worth to be worked at one by one."""
    return window.output[1] * len(like) * like.itemsize >= LINE


def _lists(rows: list[list[tuple[int, int]]], shifts: list[int]) -> Lists:
    """Return the taps of each row: where they read in their channel, which they are, how many.

    As many places are kept for each row as the longest needs. `shifts` are where in a row the columns of the kernel
    begin to read.
    """
    most = max(map(len, rows))
    places, names = np.zeros((2, len(rows), most), dtype=np.int64)
    for row, taps in enumerate(rows):
        for t, (place, name) in enumerate(taps):
            places[row, t], names[row, t] = place, name
    counts = np.asarray([len(taps) for taps in rows], dtype=np.int64)
    return places.reshape(-1), names.reshape(-1), counts, np.asarray(shifts, dtype=np.int64)


def _of(lists: Lists, images: int) -> Lists:
    """Return lists made for one image for a batch: what is kept does not grow with the batch sizes that come by."""
    return (lists[0] * images, *lists[1:])


def reads(window: Window, images: int) -> Lists:
    """Return for each row of the output what the taps read for its first pixel."""
    return _of(_reads(window), images)


@functools.lru_cache(maxsize=256)
def _reads(window: Window) -> Lists:
    (H, W), (KH, KW), (down, across) = window.input, window.kernel, window.dilation
    (top, _), (left, _) = window.padding
    shifts = [j * across - left for j in range(KW)]
    rows = []
    for oh in range(window.output[0]):
        seen = [(i, h) for i in range(KH) if 0 <= (h := oh * window.stride[0] - top + i * down) < H]
        rows.append([(h * W + shifts[j], i * KW + j) for j in range(KW) for i, h in seen])
    return _lists(rows, shifts)


def readers(window: Window, filters: int, images: int) -> tuple[Lists, np.ndarray]:
    """Return which outputs of `filters` read the first pixel of each row and phase of the stride, and by which taps.

    Behind it, for each phase, how many columns of the kernel meet it.
    """
    lists, groups = _readers(window, filters)
    return _of(lists, images), groups


@functools.lru_cache(maxsize=256)
def _readers(window: Window, filters: int) -> tuple[Lists, np.ndarray]:
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
                    ((f * OH + oh) * OW + int(shift), (f * KH + i) * KW + j)
                    for j, shift in zip(met[phase], shifts[phase], strict=False)
                    for f in range(filters)
                    for i, oh in ys
                ]
            )
    groups = np.asarray([len(columns) for columns in met], dtype=np.int64)
    return _lists(rows, shifts.reshape(-1).tolist()), groups


def geometry_of(window: Window, channels: int, filters: int, images: int) -> tuple[int, ...]:
    """Return what the loops want to know of a window over so many images."""
    return (channels, *window.input, images, filters, *window.output, *window.kernel, window.stride[1])


def run(
    module: str, kernel: str, arrays: tuple[np.ndarray, ...], given: tuple[Any, ...], count: int, factors: int = 0
) -> None:
    """Call a kernel for 0 to `count` on all threads, each with memory of its own for so many `factors`, if any."""
    dtype, most = arrays[0].dtype, max(a.size for a in arrays)
    function = loader.kernel(module, kernel, dtype)
    *others, geometry = given

    def call(part: slice) -> Callable[[], None]:
        own = [np.empty(factors, dtype)] if factors else []
        return lambda: function(*arrays, *others, *own, geometry, part.start, part.stop)

    run_all([call(part) for part in cut(count, parts_worth(threads_allowed(), count, most))])
