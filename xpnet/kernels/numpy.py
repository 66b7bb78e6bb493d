"""Kernels for NumPy: where writing into memory that is already there saves a pass."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["matmul_into"]


@register("numpy", "matmul_into")
def matmul_into(out: Array, a: Array, b: Array) -> None:
    """Write a @ b into `out`; BLAS takes rows with gaps, so a block of a convolution's output will do."""
    np.matmul(a, b, out=out)
