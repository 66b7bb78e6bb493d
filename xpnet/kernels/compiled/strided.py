"""The gradient of the input of a convolution with a stride, as convolutions without one.

With a stride of 2 the even rows of an image meet only every other row of the kernel, and the odd ones the rest: dx
falls into stride x stride grids, each of them a convolution of dy with a part of the flipped kernel. Nothing is
scattered.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from xpnet.kernels.geometry import Window

__all__ = ["Grid", "grids"]


class Grid(NamedTuple):
    """Pixels of dx that meet the same part of the kernel."""

    rows: slice  # of dx
    columns: slice
    taps: tuple[slice, slice]  # of the kernel
    window: Window  # of the convolution of dy that makes them

    def kernel(self, W: np.ndarray) -> np.ndarray:
        """Return the kernels (C, F, ., .) for dy of W (F, C, KH, KW)."""
        return np.flip(W[:, :, self.taps[0], self.taps[1]], axis=(2, 3)).transpose(1, 0, 2, 3)


class _Line(NamedTuple):
    """A grid along one axis."""

    pixels: slice
    length: int
    taps: slice
    reach: int  # taps of the kernel's part
    padding: tuple[int, int]  # negative where dy reaches beyond what the grid reads


def _lines(size: int, out: int, kernel: int, stride: int, before: int) -> list[_Line]:
    """Return the grids along an axis that any tap reaches: the others have no gradient."""
    made = []
    for first_tap in range(min(stride, kernel)):
        reach = -(-(kernel - first_tap) // stride)
        first = -((first_tap - before) // stride)  # the output that the grid's first pixel meets with that tap
        pixel = stride * first + first_tap - before
        count = -((pixel - size) // stride)
        if count > 0:
            padding = reach - 1 - first, first + count - out
            made.append(_Line(slice(pixel, None, stride), count, slice(first_tap, None, stride), reach, padding))
    return made


def grids(window: Window) -> list[Grid]:
    """Return the grids into which the input of a convolution without dilation falls."""
    axes = zip(window.input, window.output, window.kernel, window.stride, (p for p, _ in window.padding), strict=True)
    return [
        Grid(
            rows.pixels,
            columns.pixels,
            (rows.taps, columns.taps),
            Window(
                window.output,
                (rows.length, columns.length),
                (rows.reach, columns.reach),
                (1, 1),
                (rows.padding, columns.padding),
                (1, 1),
            ),
        )
        for rows, columns in itertools.product(*(_lines(*axis) for axis in axes))
    ]
