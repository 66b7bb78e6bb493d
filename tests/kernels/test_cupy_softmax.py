"""Softmax for CuPy without a GPU: the CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process

pytestmark = needs_compiler

SHAPES = [(1,), (7, 10), (3, 300), (40, 2), (2, 5, 3), (5, 3, 4, 6), (33, 70, 1, 1), (1, 2, 300, 1), (2, 3, 4, 5, 2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_along_every_axis(own, emulator, name, dtype, shape, rng):
    x, dy = ((size * rng.standard_normal(shape)).astype(dtype) for size in (5, 1))
    x, dy = (lie(rng, a) if a.ndim == 4 else np.asfortranarray(a) for a in (x, dy))
    for axis in range(-len(shape), len(shape)):
        results = []
        with emulator.noting() as launched:
            for kernels in (own.get, agnostic):
                y = kernels(f"{name}_forward")(x, axis)
                middle = results[0][0] if results else y
                results.append([y, kernels(f"{name}_backward")(dy, middle, axis)])
        compare(*results, terms=4 * shape[axis])
        assert launched == {"softmax", "softmax_gradient"}


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_numbers_that_are_not_finite_stay_in_their_column(own, name, axis, rng):
    x = rng.standard_normal((3, 4, 5, 2))
    x[1, 2, 3, 0], x[2, 1, 0, 1], x[0, 0, 4, 1] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = agnostic(f"{name}_forward")(x, axis)
    np.testing.assert_allclose(own[f"{name}_forward"](x, axis), expected, rtol=1e-12)
    assert np.isnan(expected).any()
    assert np.isfinite(expected).any()


def test_logarithms_end_at_the_lowest_float16(own):
    x = np.array([[6e4, -6e4, 0.0]], np.float16)
    np.testing.assert_array_equal(own["log_softmax_forward"](x, -1), np.array([[0.0, -65504.0, -6e4]], np.float16))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_nothing(own, name):
    x = np.zeros((0, 3))
    assert own[f"{name}_forward"](x, 1).shape == own[f"{name}_backward"](x, x, 1).shape == (0, 3)


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("softmax") <= emulator.launched
