"""What tests of the kernels for CuPy share: arrays to give them, and the agnostic kernels to compare them with."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.kernels.emulated_cupy import compiler, parse
from xpnet.kernels import cuda, table
from xpnet.testing import assert_close

DTYPES = ("float32", "float64", "float16")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler, or not Linux")
# such tests are the last of a file: without them what is above may compare less than it seems to
needs_one_process = pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="several processes share the tests that run them"
)


def kernels_of(*sources):
    """The names of all kernels of some source files."""
    return {name for source in sources for name in parse(cuda.code(source, "float32", False))}


def agnostic(name):
    return table._TABLE["agnostic", name]


def compare(got, expected, terms=1):
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert_close(a, b.astype(np.float64), terms=terms)


def lie(rng, a):
    """The same values, lying in memory as (N, C, H, W), as (C, H, W, N), or with gaps."""
    kind = rng.integers(3)
    if kind == 0:
        return np.ascontiguousarray(a)
    if kind == 1:
        return np.ascontiguousarray(a.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    wide = np.zeros((*a.shape[:3], 2 * a.shape[3]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]
