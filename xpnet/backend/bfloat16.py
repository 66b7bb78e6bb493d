"""bfloat16 on CuPy: the type of ml_dtypes, which CuPy 14 computes with but has no name for."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import BackendUnavailableError

__all__ = ["bfloat16_of_cupy"]

INSTALL = "pip install 'xpnet[cuda13]' (or 'xpnet[cuda12]') brings what it needs"
OLDEST_CUDA = 12020  # before it the header that CuPy's kernels include lacks some conversions


def bfloat16_of_cupy() -> Any:
    """Return the type for CuPy's arrays.

    Raises
    ------
    BackendUnavailableError
        If ml_dtypes is not installed, or CuPy, NumPy or CUDA are too old for it.
    """
    import cupy

    try:
        import ml_dtypes
    except ImportError as error:
        raise BackendUnavailableError(
            f"CuPy has bfloat16 where ml_dtypes is installed, and it is not; {INSTALL}"
        ) from error
    dtype = np.dtype(ml_dtypes.bfloat16)
    if f"{2 * dtype.char}->{dtype.char}" not in cupy.add.types:
        raise BackendUnavailableError(
            f"CuPy {cupy.__version__} does not compute in bfloat16 with NumPy {np.__version__}: it takes CuPy 14, "
            f"NumPy 2.1.2, and ml_dtypes installed before CuPy is imported; {INSTALL}"
        )
    runtime = cupy.cuda.get_local_runtime_version()
    if runtime < OLDEST_CUDA:
        raise BackendUnavailableError(
            f"CuPy has bfloat16 from CUDA 12.2 on, this is {runtime // 1000}.{runtime % 1000 // 10}; {INSTALL}"
        )
    return dtype
