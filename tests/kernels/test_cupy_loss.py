"""Targets of labels for CuPy without a GPU: the CUDA source gives what labels ask for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_labels(own, dtype):
    """Labels of the ends, beyond them, and ones whose lower half would be a class."""
    t = np.array([0, 2, 3, -1, 2**32 + 1, -(2**63), 1])
    rows = own["one_hot"](t, 3, np.dtype(dtype), None)
    nan = [np.nan] * 3
    np.testing.assert_array_equal(
        rows, np.array([[1, 0, 0], [0, 0, 1], nan, nan, nan, nan, [0, 1, 0]], dtype), strict=True
    )


def test_rows_left_out_are_zero_whatever_their_label(own):
    t, kept = np.array([1, 1, -1, -1]), np.array([[1.0], [0.0], [0.0], [1.0]])
    rows = own["one_hot"](np.repeat(t, 2)[::2], 2, np.dtype("float64"), kept)
    np.testing.assert_array_equal(rows, [[0, 1], [0, 0], [0, 0], [np.nan, np.nan]])
