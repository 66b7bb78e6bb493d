"""Products of matrices for CuPy: by cuBLAS, or by a kernel of our own on the way into a CUDA graph.

CuPy refuses cuBLAS while a stream is captured. The kernel is slower on large matrices, and does 16-bit types without
the tensor cores, so it takes nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import cupy
import numpy as np

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.graph import is_recording
from xpnet.kernels.cupy.launch import THREADS, check_device, launch_grid
from xpnet.kernels.table import register

__all__ = ["capturable_product", "matmul"]

# struct Product of xpnet/kernels/cuda/matmul.cu
PRODUCT = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("M", "N", "K", "a_across", "a_along", "a_matrix", "b_across", "b_along", "b_matrix"),
            *("tiles", "part", "parts"),
        )
    ]
)
TILES = {"flat": (16, 64), "small": (64, 64), "large": (128, 128)}  # of the kernels product_*
STEP = 16  # terms that a tile takes at a time
LEAST_PART = 128  # terms, so that adding up parts costs less than having them
BLOCKS = 128  # about one for each multiprocessor of a large GPU: with fewer tiles, terms are cut into parts


@register("cupy", "matmul")
def matmul(a: Array, b: Array) -> Array:
    """Return a @ b."""
    check_device("matmul", a, b)  # cuBLAS takes any address
    return capturable_product(a, b) if is_recording() else a @ b


def capturable_product(a: Array, b: Array) -> Array:
    """Multiply a (M, K) by b (K, N), or each of the matrices a (G, M, K) by that of b (G, K, N), without cuBLAS.

    Sums are in at least float32, in an order given by the shapes alone.
    """
    M, K = a.shape[-2:]
    N, G = b.shape[-1], a.shape[0] if a.ndim == 3 else 1
    out = cupy.empty((*a.shape[:-1], N), a.dtype)
    if not out.size:
        return out
    name = _tile(M, N)
    tiles = [-(-size // length) for size, length in zip((M, N), TILES[name], strict=True)]
    part, parts = _parts(math.prod(tiles) * G, K)
    partial = cupy.empty((G, parts, M, N), wide_dtype(cupy, a.dtype)) if parts > 1 else None
    numbers = (M, N, K, *_distances(a), *_distances(b.swapaxes(-1, -2)), tiles[1], part, parts)
    product = np.array(numbers, dtype=PRODUCT)
    wide = is_wide(max(_reach(a), _reach(b), out.size * parts))
    whole = out if partial is None else None
    grid = (math.prod(tiles), G * parts)
    launch_grid("matmul", f"product_{name}", a.dtype, wide, grid, THREADS, a, b, whole, partial, product)
    if partial is not None:
        size = M * N
        grid = (-(-size // 32), G)
        launch_grid("matmul", "sum_products", a.dtype, wide, grid, THREADS, partial, out, size, parts)
    return out


def _tile(M: int, N: int) -> str:
    """Return the kernel whose tiles suit a product (M, N)."""
    rows, columns = TILES["large"]
    if (M // rows) * (N // columns) >= BLOCKS:
        return "large"
    return "small" if TILES["flat"][0] < M else "flat"


def _parts(tiles: int, K: int) -> tuple[int, int]:
    """Cut K terms into parts, as many as leave no multiprocessor idle: the terms in each, and their number."""
    parts = max(1, min(BLOCKS // tiles, K // LEAST_PART))
    part = max(1, -(-K // parts // STEP) * STEP)
    return part, max(1, -(-K // part))


def _distances(a: Array) -> tuple[int, int, int]:
    """Return how far apart, in elements, rows, columns and matrices of (M, K) or (G, M, K) are."""
    across, along = (stride // a.itemsize for stride in a.strides[-2:])
    return across, along, a.strides[0] // a.itemsize if a.ndim == 3 else 0


def _reach(a: Any) -> int:
    """Return the number of elements from the first to the last, those between them that are not of the array too."""
    return 1 + sum((n - 1) * stride // a.itemsize for n, stride in zip(a.shape, a.strides, strict=True))
