"""Loading of what needs Numba, when it is first needed; where that fails, the other kernels do the work."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

import numpy as np

__all__ = ["SMALL", "module", "usable"]

SMALL = 200_000  # operations below which nothing is compiled, nor gained

logger = logging.getLogger("xpnet")


def module(name: str) -> Any:
    """Import a module of this package that needs Numba."""
    return importlib.import_module(f"xpnet.kernels.compiled.{name}")


def usable(name: str, dtype: np.dtype) -> bool:
    """Tell whether the kernels of a module are there for a type, compiling them if it is the first time."""
    return dtype.char in "fd" and _try(name, dtype.char)


@functools.cache
def _try(name: str, char: str) -> bool:
    try:
        for kernel in module(name).KERNELS:
            kernel(np.dtype(char))
    except Exception as error:  # a NumPy that Numba does not know yet, for one: no reason to stop
        logger.warning("kernels compiled by Numba are not used: %s: %s", type(error).__name__, error)
        return False
    return True
