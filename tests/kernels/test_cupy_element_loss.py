"""Losses by element for CuPy without a GPU: the CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process

pytestmark = needs_compiler

SHAPES = [(2,), (5, 10), (3, 2, 7), (4, 3, 5, 2), (300, 70), (5, 2, 60, 61)]  # of one part, and of several
LOSSES = {  # numbers of forward and backward beside the arrays
    "mean_squared_error": ((1e-3,), (1e-3,)),
    "mean_absolute_error": ((), ()),
    "huber": ((0.7,), (0.7,)),
}


def arrays(rng, shape, dtype):
    """Predictions, lying in memory in any way, and targets."""
    made = [(2 * rng.standard_normal(shape)).astype(dtype) for _ in range(2)]
    return [lie(rng, a) if a.ndim == 4 else np.asfortranarray(a) for a in made]


def wide(dtype):
    return "float32" if dtype == "float16" else dtype


def factors(dtype):
    """Gradients of the loss: a number, and an array that is beyond float16."""
    return 0.5, np.asarray(1e5, wide(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_differences(own, emulator, loss, dtype, shape, rng):
    y, t = arrays(rng, shape, dtype)
    t[0] = y[0]
    forward, backward = LOSSES[loss]
    results = []
    with emulator.noting() as launched:
        for kernels in (own.get, agnostic):
            value, difference = kernels(f"{loss}_forward")(y, t, *forward)
            gradients = [kernels(f"{loss}_backward")(dy, difference, *backward, y.dtype) for dy in factors(dtype)]
            results.append([np.asarray(value), difference, *gradients])
    compare(*results, terms=y.size)
    assert len(launched - {"sum_parts"}) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(own, dtype, shape, weighted, rng):
    z, t = arrays(rng, shape, dtype)
    z *= 5  # to where sigmoids are 0 or 1 to rounding
    t[...] = np.where(rng.random(shape) < 0.5, rng.random(shape), rng.random(shape) < 0.5)
    weights = rng.random(shape[-1]).astype(wide(dtype)) if weighted else None
    results = []
    for kernels in (own.get, agnostic):
        value, given = kernels("binary_cross_entropy_forward")(z, t, weights, False)
        backward = kernels("binary_cross_entropy_backward")
        results.append([np.asarray(value), *(backward(dy, z, given, weights) for dy in factors(dtype))])
    compare(*results, terms=z.size)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss", [*LOSSES, "binary_cross_entropy"])
def test_what_is_not_finite_is_seen(own, loss, value):
    """In the loss, and in the gradient of its element, as by the agnostic kernels."""
    y, t = np.zeros((4, 3)), np.ones((4, 3))
    y[1, 1] = value
    forward, backward = LOSSES.get(loss, ((None, False), ()))
    results = []
    for kernels in (own.get, agnostic):
        with np.errstate(invalid="ignore"):
            total, given = kernels(f"{loss}_forward")(y, t, *forward)
            if loss == "binary_cross_entropy":
                gradient = kernels(f"{loss}_backward")(1.0, y, given, None)
            else:
                gradient = kernels(f"{loss}_backward")(1.0, given, *backward, y.dtype)
        results.append((float(total), gradient))
    assert results[0][0] == pytest.approx(results[1][0], nan_ok=True)
    np.testing.assert_allclose(results[0][1], results[1][1])
    assert np.isnan(gradient[1, 1]) == math.isnan(value)


def test_targets_out_of_range_are_nan(own):
    """In the loss and in their gradients, and nowhere else; NaN among the targets too."""
    z, t = np.zeros((2, 4)), np.array([[0.0, 1.0, -0.01, 1.01], [0.5, np.nan, np.inf, -np.inf]])
    loss, given = own["binary_cross_entropy_forward"](z, t, None, False)
    assert np.isnan(loss)
    gradient = own["binary_cross_entropy_backward"](1.0, z, given, None)
    np.testing.assert_array_equal(np.isnan(gradient), [[False, False, True, True], [False, True, True, True]])


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("element_loss") <= emulator.launched
