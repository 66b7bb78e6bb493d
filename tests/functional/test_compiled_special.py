"""expm1 and log1p compiled by Numba, against NumPy's in float64."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from xpnet.functional import elu_forward, softplus_backward, softplus_forward
from xpnet.kernels import find
from xpnet.kernels.compiled import loader, special

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")

TINY = 10.0 ** np.linspace(-30.0, 0.0, 3001)
CASES = {
    "expm1_of_negative": (np.expm1, np.concatenate([np.linspace(-100.0, 0.0, 20011), -TINY])),
    "log1p_of_unit": (np.log1p, np.concatenate([np.linspace(0.0, 1.0, 20011), TINY])),
}


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


@pytest.mark.parametrize("name", CASES)
def test_the_last_digits(name, monkeypatch):
    monkeypatch.setattr(special.special, name, None)  # what it falls back on
    function, numbers = CASES[name]
    x = numbers.astype(np.float32)
    y, exact = find(name, np)(x), function(x.astype(np.float64))
    assert y.dtype == np.float32
    assert np.all(np.abs(y - exact) <= 2.5 * np.spacing(np.abs(exact).astype(np.float32)))


@pytest.mark.parametrize("name", CASES)
def test_other_types_orders_and_numbers_that_are_none(name, rng):
    sign, function = (-1.0 if name == "expm1_of_negative" else 1.0), CASES[name][0]
    x = sign * rng.random((6, 5))
    for given in (x, x.T, x.astype(np.float32).T, x.astype(np.float32)[:, ::2], x.astype(np.float16)):
        before = given.copy()
        close = 1e-3 if given.itemsize == 2 else 1e-6
        np.testing.assert_allclose(find(name, np)(given), function(given), rtol=close)
        np.testing.assert_array_equal(given, before)
    assert np.isnan(find(name, np)(np.full(9, np.nan, np.float32))).all()


def test_activations_by_them(rng):
    x = np.concatenate([rng.normal(size=999) * 5.0, [np.inf, -np.inf]]).astype(np.float32)
    wide = x.astype(np.float64)
    elu = np.where(wide > 0.0, wide, np.expm1(np.minimum(wide, 0.0)))
    np.testing.assert_allclose(elu_forward(x)[0], elu, rtol=1e-6)
    y, ctx = softplus_forward(x)
    np.testing.assert_allclose(y, np.logaddexp(0.0, wide), rtol=1e-6, atol=1e-30)
    with np.errstate(over="ignore"):
        slope = 1.0 / (1.0 + np.exp(-wide))
    np.testing.assert_allclose(softplus_backward(np.ones_like(x), ctx), slope, rtol=1e-6, atol=1e-7)
