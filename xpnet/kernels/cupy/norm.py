"""Batch normalisation for CuPy: two launches each way in training, one forward in inference."""

from __future__ import annotations

import math
from typing import Any

import cupy

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import norm
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import contiguous, innermost, launch, launch_grid, power_of_two
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["batch_norm_backward", "batch_norm_forward", "running_statistics"]

PART = 4096  # elements of a row that one block takes, which then stay in its cache
MOST_PARTS = 1024  # of a row: each block of the second kernel reads what all of them left


class _Rows:
    """Arrays seen as rows (C, L), cut into parts; by the shape alone, so that sums repeat to the bit."""

    def __init__(self, x: Array) -> None:
        self.dtype, self.channels = x.dtype, x.shape[0]
        self.length = math.prod(x.shape[1:])
        self.part = max(PART, -(-self.length // MOST_PARTS))
        self.parts = -(-self.length // self.part)
        self.wide = wide_dtype(cupy, x.dtype)

    def per_channel(self, dtype: Any = None) -> Array:
        return cupy.empty((self.channels,), dtype=dtype or self.wide)

    def partial(self, numbers: int) -> Array:
        return cupy.empty((self.channels, self.parts, numbers), dtype=self.wide)

    def launch(self, name: str, *arguments: Any) -> None:
        """Run a kernel with one block for each part of each row."""
        wide = is_wide(self.channels * self.length)
        grid, threads = (self.channels * self.parts,), power_of_two(min(self.part, self.length))
        launch_grid("norm", name, self.dtype, wide, grid, threads, *arguments)

    @property
    def cut(self) -> tuple[int, int, int]:
        return self.length, self.part, self.parts


@register("cupy", "batch_norm_forward")
def batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array | None,
    var: Array | None,
    eps: float,
    rectified: bool,
) -> tuple[Array, Array, Array, Array]:
    """Normalise each channel by the given statistics, or by the batch's where they are None; then relu, if wanted.

    Returns y, mean, biased variance and 1/sqrt(var + eps), the last three (C,) in at least float32.
    """
    inner = innermost(x)
    rows = _Rows(inner)
    y, inv_std = cupy.empty_like(inner), rows.per_channel()
    scale_shift = (contiguous(gamma, x.dtype), contiguous(beta, x.dtype))
    if mean is None or var is None:
        mean, var, partial = rows.per_channel(), rows.per_channel(), rows.partial(3)
        rows.launch("batch_norm_statistics", inner, partial, *rows.cut)
        rows.launch("batch_norm_train", inner, y, partial, *scale_shift, mean, var, inv_std, *rows.cut, float(eps),
                    rectified)  # fmt: skip
    else:
        mean, var = contiguous(mean, rows.wide), contiguous(var, rows.wide)
        rows.launch("batch_norm_infer", inner, y, mean, var, *scale_shift, inv_std, *rows.cut, float(eps), rectified)
    return batch_first(cupy, y), mean, var, inv_std


@register("cupy", "running_statistics")
def running_statistics(
    mean: Array, var: Array, running_mean: Array, running_var: Array, momentum: float, correction: float
) -> tuple[Array, Array]:
    """Return the running mean and variance after a batch; `correction` makes its variance the unbiased one."""
    given = (mean, var, running_mean, running_var)
    if any(a.dtype != mean.dtype for a in given):
        return norm.running_statistics(*given, momentum, correction)
    made = cupy.empty_like(mean), cupy.empty_like(var)
    numbers = (float(momentum), float(correction), mean.size)
    launch("norm", "running_statistics", mean, mean.size, *map(cupy.ascontiguousarray, given), *made, *numbers)
    return made


@register("cupy", "batch_norm_backward")
def batch_norm_backward(
    dy: Array,
    x: Array,
    y: Array | None,
    gamma: Array | None,
    mean: Array,
    inv_std: Array,
    train: bool,
    overwrite: bool,
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta; with `train` the statistics depend on x and pass gradient too.

    `y` is the output if it ended in relu, else None. With `overwrite`, a library may put dx where dy is.
    """
    gradient, inner, top = innermost(dy), innermost(x), None if y is None else innermost(y)
    rows = _Rows(inner)
    dx, partial = cupy.empty_like(inner), rows.partial(2)
    dgamma, dbeta = rows.per_channel(dy.dtype), rows.per_channel(dy.dtype)
    centre, scale = contiguous(mean, rows.wide), contiguous(inv_std, rows.wide)
    rows.launch("batch_norm_sums", gradient, inner, top, centre, scale, partial, *rows.cut)
    made = (dx, dgamma, dbeta, *rows.cut, bool(train))
    rows.launch("batch_norm_gradient", gradient, inner, top, contiguous(gamma, x.dtype), centre, scale, partial, *made)
    return batch_first(cupy, dx), dgamma, dbeta
