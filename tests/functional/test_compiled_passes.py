"""Passes over arrays compiled by Numba: relu, sigmoid, batch normalisation and their gradients."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest

from xpnet.functional import (
    batch_norm_backward,
    batch_norm_forward,
    pool2d_forward,
)
from xpnet.functional.norm import batch_norm_backward_of_new
from xpnet.kernels import find
from xpnet.kernels.compiled import loader
from xpnet.testing import assert_close

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


@pytest.mark.parametrize("overwrite", [False, True])
def test_relu_of_any_number(overwrite, rng):
    x = in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0))
    x[0, 0, :, 0] = [np.nan, np.inf, -np.inf, -0.0, 0.0]
    before = x.copy()
    np.testing.assert_array_equal(find("relu_forward", np)(x, overwrite), np.maximum(before, 0.0))
    assert overwrite or np.array_equal(x, before, equal_nan=True)


def test_batch_norm_of_numbers_far_from_zero(rng):
    """The spread is a ten-thousandth of the mean: what rounding leaves in the mean must not tell."""
    wide = 1e4 + rng.standard_normal((20, 3, 9, 7))
    x = wide.astype(np.float32)
    y, _, mean, var = batch_norm_forward(x, None, None, *np.ones((2, 3), np.float32), train=True, momentum=1.0)
    exact = x.astype(np.float64)
    axes = (0, 2, 3)
    np.testing.assert_allclose(var, exact.var(axes, ddof=1), rtol=1e-4)
    centred = exact - exact.mean(axes, keepdims=True)
    np.testing.assert_allclose(y, centred / np.sqrt(exact.var(axes, keepdims=True) + 1e-5), atol=2e-4)


def in_memory(x, order):
    """Return a copy of x whose axes lie in memory in the given order."""
    return np.array(x.transpose(order), order="C").transpose(np.argsort(order))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "order", [(1, 2, 3, 0), (0, 1, 2, 3), (0, 1), (1, 0)], ids=["batch innermost", "NCHW", "rows", "columns"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_sigmoid_of_any_number(overwrite, order, dtype, rng):
    x = (rng.standard_normal((7, 3, 5, 3) if len(order) == 4 else (21, 15)) * 40.0).astype(dtype)
    x[0].ravel()[:5] = [np.nan, np.inf, -np.inf, 1e30, -1e30]
    dy = rng.standard_normal(x.shape).astype(dtype)
    with np.errstate(over="ignore"):
        expected = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    given = in_memory(x, order)
    y = find("sigmoid_forward", np)(given, overwrite)
    assert y.dtype == dtype
    tiny = expected < 1e-37  # where exp(-x) would overflow, some number of about that size
    np.testing.assert_allclose(y[~tiny], expected[~tiny], rtol=4e-7 if dtype == "float32" else 4e-16)
    assert np.all(np.abs(y[tiny]) < 1e-37)
    given_dy = in_memory(dy, order)
    dx = find("sigmoid_backward", np)(given_dy, y, overwrite)
    np.testing.assert_allclose(dx, dy * y.astype(np.float64) * (1.0 - y), rtol=1e-6, atol=1e-7)
    if not overwrite:
        np.testing.assert_array_equal(given, x)
        np.testing.assert_array_equal(given_dy, dy)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_gradient_of_relu_and_its_sums(overwrite, rng):
    dy, y = (in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0)) for _ in range(2))
    before = dy.copy()
    dx, db = find("relu_bias_backward", np)(dy, y, True, overwrite)
    expected = np.where(y > 0.0, before, 0.0)
    np.testing.assert_array_equal(dx, expected)
    assert_close(db, expected.sum(axis=(0, 2, 3), dtype=np.float64).astype(np.float32))
    assert overwrite or np.array_equal(dy, before)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_the_gradient_of_batch_norm_over_dy(train, activation, rng):
    x, dy = (in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0)) for _ in range(2))
    gamma, beta, mean = rng.standard_normal((3, 4)).astype(np.float32)
    given = (x, gamma, beta, mean, np.abs(mean) + np.float32(0.5))
    _, ctx, *_ = batch_norm_forward(*given, train=train, activation=activation)
    expected = batch_norm_backward(dy, ctx)
    got = batch_norm_backward_of_new(dy, ctx)
    assert np.shares_memory(got[0], dy)
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_other_byte_order_is_left_to_numpy(dtype, rng):
    """Numba does not know it."""
    x = rng.standard_normal((4, 3, 6, 6)).astype(dtype)
    other = x.astype(x.dtype.newbyteorder())
    for act in (lambda a: pool2d_forward(a, 2)[0], lambda a: pool2d_forward(a, 3, 1)[0],
                lambda a: find("relu_forward", np)(a, False), lambda a: find("silu_forward", np)(a)):  # fmt: skip
        np.testing.assert_allclose(act(other), act(x), rtol=1e-5)


def test_the_gradient_of_batch_norm_over_a_read_only_dy_is_elsewhere(rng):
    x, dy = (in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0)) for _ in range(2))
    _, ctx, *_ = batch_norm_forward(x, *np.ones((4, 4), np.float32), train=True)
    expected, dy.flags.writeable = batch_norm_backward(dy, ctx), False
    for got, wanted in zip(batch_norm_backward_of_new(dy, ctx), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
