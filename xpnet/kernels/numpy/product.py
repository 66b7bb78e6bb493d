"""Matrix products for NumPy, shared out among the team: BLAS's own threads wait in loops that others pay for."""

from __future__ import annotations

import functools

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, parts_worth, run_all, threads_beside_blas

__all__ = ["matmul", "matmul_into", "row_sums", "threads_worth"]

WORK = 4_000_000  # multiply-adds for which it is worth to wake another thread


def threads_worth(multiply_adds: int) -> int:
    """Return how many threads so much work is worth."""
    wanted = multiply_adds // WORK
    return 1 if wanted < 2 else min(threads_beside_blas(), wanted)


@register("numpy", "matmul")
def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product a @ b of arrays of two axes, or of as many more as they both have."""
    out = np.empty((*a.shape[:-1], b.shape[-1]), dtype=np.result_type(a, b))
    matmul_into(out, a, b)
    return out


@register("numpy", "matmul_into")
def matmul_into(out: Array, a: Array, b: Array) -> None:
    """Write a @ b into `out`; BLAS takes rows with gaps, so a block of a convolution's output will do."""
    threads = threads_worth(out.size * a.shape[-1])
    if out.ndim > 2:
        parts = [(a[p], b[p], out[p]) for p in cut(len(out), min(threads, len(out)))]
    elif out.shape[0] > out.shape[1]:
        parts = [(a[p], b, out[p]) for p in cut(len(out), threads)]
    else:
        parts = [(a, b[:, p], out[:, p]) for p in cut(out.shape[1], min(threads, out.shape[1]))]
    run_all([functools.partial(np.matmul, *given, out=made) for *given, made in parts], products=True)


def row_sums(x: np.ndarray) -> np.ndarray:
    """Return the sums (C,) of `x` (C, ...) over all other axes, by BLAS: in a tenth of the time of np.sum."""
    rows = x.reshape(len(x), -1)
    ones, sums = np.ones(rows.shape[1], dtype=x.dtype), np.empty(len(x), dtype=x.dtype)
    parts = cut(len(x), parts_worth(threads_beside_blas(), len(x), x.size))
    run_all([functools.partial(np.matmul, rows[part], ones, out=sums[part]) for part in parts], products=True)
    return sums
