"""Functions near the exponential by compiled loops: the C library's, which NumPy calls, take ten times as long."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import special
from xpnet.kernels.compiled import loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.table import register
from xpnet.kernels.team import run_ranges

__all__ = ["expm1_of_negative", "log1p_of_unit"]

WORK = 8  # what an element is worth beside one that is read and written


def _is_taken(kernel: str, x: np.ndarray) -> bool:
    return x.flags.c_contiguous and loader.takes("_exponential", kernel, x)


def _applied(kernel: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    run_ranges(loader.kernel("_exponential", kernel, x.dtype), (flat(x), y.reshape(-1)), x.size, WORK * x.size)
    return y


@register("compiled", "expm1_of_negative")
def expm1_of_negative(x: Array) -> Array:
    """Return exp(x) - 1 of what is not positive."""
    return _applied("expm1_of_negative", x) if _is_taken("expm1_of_negative", x) else special.expm1_of_negative(x)


@register("compiled", "log1p_of_unit")
def log1p_of_unit(x: Array) -> Array:
    """Return log(1 + x) of what is in 0 to 1."""
    return _applied("log1p_of_unit", x) if _is_taken("log1p_of_unit", x) else special.log1p_of_unit(x)
