r"""Convolution with 3x3 kernels by Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 outputs, not 144.

A tile of 6x6 inputs gives 4x4 outputs, Y = A^T [(G w G^T) * (B^T d B)] A. As a row of 36 numbers a tile is
transformed by one matrix, kron(B^T, B^T), so all tiles of a block are one matrix product; what multiplies filters and
channels is 36 products (F, C) @ (C, tiles). dx is a convolution again.

References
----------
Lavin and Gray, *Fast algorithms for convolutional neural networks*, arXiv:1509.09308.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, array_namespace, device_of, finfo, wide_dtype
from xpnet.kernels.agnostic.conv import block_budget, blocks, gather_columns, mirrored_window
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import find, register

__all__ = [
    "POINTS",
    "STEP",
    "TILE",
    "Transforms",
    "scratch_per_tile",
    "tile_windows",
    "transform_kernels",
    "transforms",
    "winograd_conv2d_backward",
    "winograd_conv2d_forward",
]

TILE, STEP = 6, 4  # inputs and outputs of a tile, along an axis
POINTS = TILE * TILE

# Lavin and Gray, section 4.1.3 (interpolation at 0, 1, -1, 2, -2), with rows of G scaled as there
_BT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_AT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Transforms(NamedTuple):
    """kron(M, M) of the three matrices, which transform a tile written as a row of numbers."""

    bt: Array  # (36, 36), of inputs
    at: Array  # (16, 36), to outputs
    g: Array  # (36, 9), of kernels


_KNOWN: dict[tuple[Any, Any, Any], Transforms] = {}  # by namespace, type and device


def transforms(xp: Any, like: Array) -> Transforms:
    """Return the transforms of a tile as matrices of the type and on the device of `like`."""
    key = (xp, like.dtype, str(device_of(like)))
    if key not in _KNOWN:
        made = []
        for matrix in (_BT, _AT, _G):
            rows = [[a * b for a in top for b in bottom] for top in matrix for bottom in matrix]
            made.append(xp.asarray(rows, dtype=like.dtype, device=device_of(like)))
        _KNOWN[key] = Transforms(*made)
    return _KNOWN[key]


def tile_windows(window: Window) -> tuple[Window, Window]:
    """Return how the tiles of a convolution lie on its input, and on its output."""
    grid = (-(-window.output[0] // STEP), -(-window.output[1] // STEP))
    inputs = Window(window.input, grid, (TILE, TILE), (STEP, STEP), window.padding, (1, 1))
    outputs = Window(window.output, grid, (STEP, STEP), (STEP, STEP), ((0, 0), (0, 0)), (1, 1))
    return inputs, outputs


def transform_kernels(xp: Any, W: Array) -> Array:
    """Return W (F, C, 3, 3) as (36, F, C)."""
    F, C = W.shape[:2]
    return xp.reshape(transforms(xp, W).g @ xp.reshape(W, (F * C, 9)).T, (POINTS, F, C))


def scratch_per_tile(xp: Any, x: Array, W: Array) -> int:
    """Return the bytes of scratch memory for one tile of `x` (C, H, W, N): two arrays of the wider side."""
    return 2 * POINTS * max(W.shape[:2]) * x.shape[3] * (finfo(xp, x.dtype).bits // 8)


def _gather(xp: Any, x: Array, window: Window, rows: slice, columns: slice) -> Array:
    """Return the tiles of a block: (36, C * tiles * N)."""
    C, N = x.shape[0], x.shape[3]
    shape = (TILE, TILE, C, rows.stop - rows.start, columns.stop - columns.start, N)
    tiles = xp.empty(shape, dtype=x.dtype, device=device_of(x))
    gather_columns(xp.permute_dims(tiles, (2, 0, 1, 3, 4, 5)), x, window, rows, columns)
    return xp.reshape(tiles, (POINTS, math.prod(shape[2:])))


def _convolve(xp: Any, x: Array, W: Array, b: Array | None, window: Window) -> Array:
    """Convolve `x` (C, H, W, N) with `W` (F, C, 3, 3): (F, OH, OW, N)."""
    (F, C), N = W.shape[:2], x.shape[3]
    bt, at, _ = transforms(xp, x)
    U = transform_kernels(xp, W)
    inputs, outputs = tile_windows(window)
    y = xp.empty((F, *window.output, N), dtype=x.dtype, device=device_of(x))
    for rows, columns in blocks(inputs, scratch_per_tile(xp, x, W), block_budget()):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        tiles = bt @ _gather(xp, x, inputs, rows, columns)
        products = xp.matmul(U, xp.reshape(tiles, (POINTS, C, height * width * N)))
        made = at @ xp.reshape(products, (POINTS, F * height * width * N))
        made = xp.reshape(made, (STEP, STEP, F, height, width, N))
        if b is not None:
            made += xp.reshape(b, (F, 1, 1, 1))
        for tap in outputs.taps(rows, columns):
            y[:, tap.in_rows, tap.in_columns, :] = made[tap.i, tap.j, :, tap.out_rows, tap.out_columns, :]
    return y


@register("agnostic", "winograd_conv2d_forward")
def winograd_conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C, 3, 3), stride 1, no groups: (N, F, OH, OW); in at least float32."""
    xp = array_namespace(x)
    wide = wide_dtype(xp, x.dtype)
    inner, W, b = (a if a is None else xp.astype(a, wide, copy=False) for a in (batch_innermost(xp, x), W, b))
    return batch_first(xp, xp.astype(_convolve(xp, inner, W, b, window), x.dtype, copy=False))


@register("agnostic", "winograd_conv2d_backward")
def winograd_conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed.

    dx is a convolution by tiles. dW is not: the sum over blocks of 36 (F, C) matrices costs what the products save.
    """
    xp = array_namespace(dy)
    _, dW, db = find("conv2d_backward", xp)(dy, x, W, window, groups, False, need_db)
    if not need_dx:
        return None, dW, db
    mirrored = mirrored_window(window)
    if mirrored is None:  # more padding than the kernel reaches
        return find("conv2d_input_gradient", xp)(dy, W, window, groups), dW, db
    flipped = xp.permute_dims(xp.flip(W, axis=(2, 3)), (1, 0, 2, 3))
    return find("winograd_conv2d_forward", xp)(dy, flipped, None, mirrored, groups), dW, db
