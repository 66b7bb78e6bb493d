"""Layer, group and instance normalisation for CuPy: two launches each way, and one or two for gamma and beta."""

from __future__ import annotations

import math
from typing import Any

import cupy

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import contiguous, innermost, launch_grid, launch_sums, power_of_two
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["group_norm_backward", "group_norm_forward"]

LANES = 32  # images side by side that a block takes: a warp reads whole lines of memory
PART = 4096  # elements that a block takes at least


class _Groups:
    """Images (C, ..., N) seen as groups (G, V, N) whose values are cut into parts, by the shape alone."""

    def __init__(self, x: Array, groups: int, scales: int) -> None:
        self.dtype, self.size, self.groups, self.images = x.dtype, x.size, groups, x.shape[-1]
        self.values = math.prod(x.shape[:-1]) // groups
        self.positions = self.values // scales
        self.lanes = min(LANES, 1 << (self.images - 1).bit_length())
        # as many parts as to read what they left is a small part of a block's work
        self.part = max(PART // self.lanes, math.isqrt(8 * self.values))
        self.parts = -(-self.values // self.part)
        self.wide = wide_dtype(cupy, x.dtype)

    def per_group(self) -> Array:
        return cupy.empty((self.groups, 1, 1, self.images), dtype=self.wide)

    def partial(self, numbers: int) -> Array:
        return cupy.empty((self.groups, self.parts, numbers, self.images), dtype=self.wide)

    def launch(self, name: str, *arguments: Any) -> None:
        """Run a kernel with one block for each part of each group of some images."""
        grid = self.groups * -(-self.images // self.lanes) * self.parts
        threads = power_of_two(self.lanes * min(self.part, self.values))
        cut = (self.values, self.images, self.lanes, self.part, self.parts)
        launch_grid("group_norm", name, self.dtype, is_wide(self.size), (grid,), threads, *arguments, *cut)


@register("cupy", "group_norm_forward")
def group_norm_forward(
    x: Array, gamma: Array | None, beta: Array | None, groups: int, scales: int, eps: float
) -> tuple[Array, Array, Array]:
    """Normalise each group of each sample; return y, mean and 1/sqrt(var + eps), the last two (G, 1, 1, N)."""
    inner = innermost(x)
    cut = _Groups(inner, groups, scales)
    y, mean, inv_std, partial = cupy.empty_like(inner), cut.per_group(), cut.per_group(), cut.partial(3)
    scale_shift = contiguous(gamma, x.dtype), contiguous(beta, x.dtype)
    cut.launch("group_norm_statistics", inner, partial)
    cut.launch("group_norm", inner, y, partial, *scale_shift, mean, inv_std, cut.positions, float(eps))
    return batch_first(cupy, y), mean, inv_std


@register("cupy", "group_norm_backward")
def group_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array | None,
    mean: Array,
    inv_std: Array,
    groups: int,
    scales: int,
    need_affine: bool,
) -> tuple[Array, Array | None, Array | None]:
    """Return dx, and if needed dgamma and dbeta (G * K,), else None."""
    gradient, inner = innermost(dy), innermost(x)
    cut = _Groups(inner, groups, scales)
    dx, partial = cupy.empty_like(inner), cut.partial(2)
    statistics = contiguous(mean, cut.wide), contiguous(inv_std, cut.wide)
    given = (gradient, inner, contiguous(gamma, x.dtype), *statistics, partial)
    cut.launch("group_norm_sums", *given, cut.positions)
    cut.launch("group_norm_gradient", *given, dx, cut.positions)
    if not need_affine:
        return batch_first(cupy, dx), None, None
    count, length = groups * scales, cut.positions * cut.images
    both = cupy.empty((2, count), dy.dtype)
    before = (gradient, inner, *statistics, count, scales, cut.images)
    launch_sums("group_norm", "group_norm_scale_gradients", both, length, before, (length,), is_wide(dx.size))
    return batch_first(cupy, dx), both[0], both[1]
