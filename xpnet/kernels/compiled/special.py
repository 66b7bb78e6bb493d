"""Functions near the exponential by compiled loops: the C library's, which NumPy calls, take ten times as long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import special
from xpnet.kernels.compiled.each_element import applied
from xpnet.kernels.table import register

__all__ = ["expm1_of_negative", "log1p_of_unit"]

WORK = 8  # what an element is worth beside one that is read and written


def _applied(kernel: str, x: np.ndarray, otherwise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what a kernel makes of an array in C order, whose axes are nobody's images, or else another function."""
    made = applied("_exponential", kernel, (x.reshape(-1),), WORK) if x.flags.c_contiguous else None
    return otherwise(x) if made is None else made.reshape(x.shape)


@register("compiled", "expm1_of_negative")
def expm1_of_negative(x: Array) -> Array:
    """Return exp(x) - 1 of what is not positive."""
    return _applied("expm1_of_negative", x, special.expm1_of_negative)


@register("compiled", "log1p_of_unit")
def log1p_of_unit(x: Array) -> Array:
    """Return log(1 + x) of what is in 0 to 1."""
    return _applied("log1p_of_unit", x, special.log1p_of_unit)
