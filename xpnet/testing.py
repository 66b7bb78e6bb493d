"""Helpers for tests of code that uses xpnet: comparing arrays of any library, checking gradients of any model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.gradcheck import check_gradients

__all__ = ["TOLERANCES", "assert_close", "check_gradients"]

# relative error per float type of one operation; sums over K terms are allowed sqrt(K) times as much
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}


def assert_close(
    actual: Array, expected: Any, *, terms: int = 1, rtol: float | None = None, atol: float | None = None
) -> None:
    """Check that an array of any library has the shape and, within rounding, the values expected.

    The error allowed is ``rtol * sqrt(terms) * (1 + |expected|)``, with `rtol` by the type of
    `actual` from `TOLERANCES`.

    Parameters
    ----------
    actual : array
        Of any library and device.
    expected : array or nested sequence
        Usually computed in float64.
    terms : int, default 1
        Length of the sums behind each element.
    rtol, atol : float, optional
        Relative tolerance in place of the table's; and an absolute one in place of ``rtol * sqrt(terms)``.

    Raises
    ------
    AssertionError
        With the worst element, if shapes or values differ.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.testing import assert_close
    >>> assert_close(np.float32([0.1, 0.2]), [0.1, 0.2])
    """
    got, want = backend.to_numpy(actual), backend.to_numpy(expected)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    if not got.size:
        return
    relative = TOLERANCES.get(backend.dtype_name(actual.dtype), 0.0) if rtol is None else rtol
    relative *= math.sqrt(terms)
    got, want = got.astype(np.float64), want.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    finite = np.isfinite(got) & np.isfinite(want)
    error = np.where(same, 0.0, np.inf)
    np.subtract(got, want, out=error, where=finite)
    allowed = (relative if atol is None else atol) + relative * np.abs(np.where(finite, want, 0.0))
    excess = np.abs(error) - allowed
    if (excess > 0).any():
        worst = np.unravel_index(int(np.argmax(excess)), got.shape)
        raise AssertionError(
            f"{int((excess > 0).sum())} of {got.size} elements differ; the worst at {tuple(map(int, worst))}: "
            f"{got[worst]!r}, expected {want[worst]!r}, allowed error {allowed[worst]:.3g}"
        )
