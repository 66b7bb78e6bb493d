"""Loading of what needs Numba, when it is first needed; where that fails, the other kernels do the work."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet._interrupt import InterruptGuard

__all__ = ["SMALL", "flat", "kernel", "load_all", "module", "takes", "usable"]

SMALL = 200_000  # operations below which nothing is compiled, nor gained
LOOPS = ("_conv_loops", "_depthwise_loops", "_exponential", "_gated_loops", "_pass_loops", "_pool_loops",
         "_winograd_loops")  # fmt: skip
OPERATIONS = 10  # of a pass, for each element, about

logger = logging.getLogger("xpnet")


@functools.cache
def module(name: str) -> Any:
    """Import a module of this package that needs Numba; Ctrl-C waits, or it could leave C++ libraries half made."""
    with InterruptGuard() as interrupt:
        found = importlib.import_module(f"xpnet.kernels.compiled.{name}")
    interrupt.pass_on()
    return found


def kernel(name: str, kernel: str, dtype: np.dtype) -> Callable[..., None]:
    """Return the machine code of a kernel that is `usable`."""
    return getattr(module(name), kernel)(dtype)


def load_all(dtype: np.dtype) -> None:
    """Load the machine code of every kernel for a type, compiling what is not in the cache on disk."""
    for name in LOOPS:
        loops = module(name)
        for found in vars(loops).values():
            if isinstance(found, module("_compile").Kernel) and dtype.char in found.dtypes:
                found(dtype)


def flat(x: np.ndarray) -> np.ndarray:
    """Return an array as one axis, contiguous and writeable: for others Numba would compile anew.

    A view if it is both; of an array that is neither, ``reshape(-1)`` may be a view with steps.
    """
    row = np.ascontiguousarray(x).reshape(-1)
    return row if row.flags.writeable else row.copy()


def usable(name: str, kernel: str, dtype: np.dtype) -> bool:
    """Tell whether a kernel of a module is there for a type, compiling it if it is the first time."""
    return dtype.char in "fd" and dtype.isnative and _try(name, kernel, dtype.char)


def takes(name: str, kernel: str, x: np.ndarray) -> bool:
    """Tell whether a pass over an array is worth the compiled kernel, and the array of a type that it takes."""
    return OPERATIONS * x.size >= SMALL and usable(name, kernel, x.dtype)


@functools.cache
def _try(name: str, kernel: str, char: str) -> bool:
    try:
        found = getattr(module(name), kernel)
        if char not in found.dtypes:
            return False
        found(np.dtype(char))
    except Exception as error:  # a NumPy that Numba does not know yet, for one: no reason to stop
        logger.warning("%s compiled by Numba is not used: %s: %s", kernel, type(error).__name__, error)
        return False
    return True
