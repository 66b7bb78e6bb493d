"""Winograd's convolution for NumPy: as the standard-only one, in two pieces of scratch memory that all blocks share."""

from __future__ import annotations

import functools
import math

import numpy as np

from xpnet import config
from xpnet.backend import Array
from xpnet.kernels.agnostic import relu, winograd
from xpnet.kernels.agnostic.conv import gather_columns, pixel_blocks
from xpnet.kernels.agnostic.winograd import POINTS, STEP, TILE
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy.conv import scratch
from xpnet.kernels.numpy.product import matmul, threads_worth
from xpnet.kernels.table import register
from xpnet.kernels.team import run_all

__all__ = ["conv2d_algorithm", "winograd_conv2d_forward", "winograd_conv2d_relu_forward"]

CHANNELS = 64  # on both sides: with fewer, the transforms cost more than the products save
WASTE = 1.5  # tiles that reach beyond the output cost as much as others


@register("numpy", "conv2d_algorithm")
def conv2d_algorithm(x: Array, W: Array, window: Window) -> str:
    """Return "winograd" where a 3x3 convolution without groups was measured to gain by it, else "gemm"."""
    (OH, OW), covered = window.output, math.prod(-(-n // STEP) * STEP for n in window.output)
    gains = min(W.shape[:2]) >= CHANNELS and covered <= WASTE * OH * OW and W.dtype.char in "fd"
    return "winograd" if gains else "gemm"


@register("numpy", "winograd_conv2d_forward")
def winograd_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C, 3, 3), stride 1, no groups: (N, F, OH, OW)."""
    inner = batch_innermost(np, x)
    if not _fits(inner, W):
        return winograd.winograd_conv2d_forward(x, W, b, window, groups)
    return batch_first(np, _convolve(inner, W, b, window))


@register("numpy", "winograd_conv2d_relu_forward")
def winograd_conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW), by Winograd's tiles."""
    inner = batch_innermost(np, x)
    if not _fits(inner, W):
        return relu.winograd_conv2d_relu_forward(x, W, b, window, groups)
    return batch_first(np, _convolve(inner, W, b, window, rectified=True))


def _fits(x: np.ndarray, W: np.ndarray) -> bool:
    """Whether the workspace holds a tile of all images `x` (C, H, W, N)."""
    return x.dtype.char in "fd" and winograd.scratch_per_tile(np, x, W) <= config.get("conv_workspace")


def _convolve(
    inner: np.ndarray, W: np.ndarray, b: np.ndarray | None, window: Window, rectified: bool = False
) -> np.ndarray:
    """Convolve `inner` (C, H, W, N) with `W` (F, C, 3, 3), and no less than 0 with `rectified`: (F, OH, OW, N)."""
    (F, C), N = W.shape[:2], inner.shape[3]
    bt, at, g = winograd.transforms(np, inner)
    U = matmul(g, W.reshape(F * C, 9).T).reshape(POINTS, F, C)
    inputs, outputs = winograd.tile_windows(window)
    y = np.empty((F, *window.output, N), dtype=inner.dtype)

    def convolve(rows: slice, columns: slice) -> None:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        L = height * width * N
        first, second = scratch((2, POINTS * max(F, C) * L), inner.dtype)
        tiles = first[: POINTS * C * L].reshape(TILE, TILE, C, height, width, N)
        gather_columns(tiles.transpose(2, 0, 1, 3, 4, 5), inner, inputs, rows, columns)
        transformed = _product(second, bt, tiles.reshape(POINTS, C * L)).reshape(POINTS, C, L)
        products = _product(first, U, transformed).reshape(POINTS, F * L)
        made = _product(second, at, products)
        if b is not None:
            by_filter = made.reshape(STEP * STEP, F, L)
            by_filter += b[:, None]  # while it is in cache
        if rectified:
            np.maximum(made, 0.0, out=made)
        made = made.reshape(STEP, STEP, F, height, width, N)
        for tap in outputs.taps(rows, columns):
            y[:, tap.in_rows, tap.in_columns] = made[tap.i, tap.j, :, tap.out_rows, tap.out_columns]

    tiles_needed, per_tile = math.prod(inputs.output), winograd.scratch_per_tile(np, inner, W)
    room = config.get("conv_workspace") // per_tile  # tiles that may be worked at, by all threads together
    threads = min(threads_worth(POINTS * F * C * tiles_needed * N), room)
    parts = pixel_blocks(inputs, min(room // threads, -(-tiles_needed // threads)))
    run_all([functools.partial(convolve, *part) for part in parts], products=True, at_most=threads)
    return y


def _product(memory: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b, written into `memory`."""
    shape = (*a.shape[:-1], b.shape[-1])
    out = memory[: math.prod(shape)].reshape(shape)
    return np.matmul(a, b, out=out)
