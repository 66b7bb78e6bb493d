"""Compilation by Numba: one machine code for each float type, made when it is first needed, and cached on disk."""

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

from xpnet._interrupt import InterruptGuard

_lock = threading.Lock()

# Division as in C: the divisors are never zero, and checks for it double the code. Sums may be added up in another
# order and products fused with them, which vectors need; NaN and infinity stay what they are.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}

EXACT = OPTIONS | {"fastmath": {"contract"}}  # where the order of operations is what keeps the digits

inline = numba.njit(**OPTIONS)
spliced = numba.njit(inline="always")  # compiled anew, with the options of the caller, for every call


class Kernel:
    """A function compiled for one-dimensional contiguous arrays of float32 or float64.

    Parameters
    ----------
    function : function
    signature : function
        Given the Numba type of an array, it returns the types of the arguments.
    options : dict, default `OPTIONS`
    dtypes : str, default "fd"
        The characters of the float types that it takes.
    """

    def __init__(
        self,
        function: Callable[..., None],
        signature: Callable[[Any], tuple[Any, ...]],
        options: dict[str, Any] = OPTIONS,
        dtypes: str = "fd",
    ) -> None:
        self._function, self._signature, self._options = function, signature, options
        self.dtypes = dtypes
        self._compiled: dict[str, Callable[..., None]] = {}

    def __call__(self, dtype: np.dtype) -> Callable[..., None]:
        """Return the machine code for a float type; the global interpreter lock is not held in it."""
        found = self._compiled.get(dtype.char)
        if found is None:
            # LLVM calls back into Python, where a KeyboardInterrupt would be lost
            with _lock, InterruptGuard() as interrupt:
                found = self._compiled.get(dtype.char) or self._compile(dtype)
                self._compiled[dtype.char] = found
            interrupt.pass_on()
        return found

    def _compile(self, dtype: np.dtype) -> Callable[..., None]:
        signature = types.void(*self._signature(numba.from_dtype(dtype)[::1]))
        try:
            made = numba.njit(cache=True, **self._options)(self._function)
            made._cache._cache_file._source_stamp = _stamp()
            made.compile(signature)
        except (RuntimeError, OSError, AttributeError):  # no folder to keep it in, a full one, or Numba has changed
            made = numba.njit(signature, **self._options)(self._function)
        return made


@functools.cache
def _stamp() -> int:
    """Return a number for the sources here: Numba looks at the function's file, not at those it takes tiles from."""
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("_*.py"))))
