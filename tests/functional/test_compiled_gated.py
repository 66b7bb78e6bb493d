"""silu, gelu and mish compiled by Numba, against their definitions in float64."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from xpnet import functional
from xpnet.kernels import find, team
from xpnet.kernels.compiled import gated, loader

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def normal(x):
    """The integral of the normal density, and the density."""
    gate = 0.5 * np.vectorize(math.erfc, otypes=[float])(-x * math.sqrt(0.5))
    return gate, np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def by_tanh(x):
    scale = math.sqrt(2.0 / math.pi)
    t = np.tanh(scale * (x + 0.044715 * x**3))
    return 0.5 * (1.0 + t), 0.5 * (1.0 - t * t) * scale * (1.0 + 3.0 * 0.044715 * x * x)


def logistic(x):
    gate = 1.0 / (1.0 + np.exp(-x))
    return gate, gate * (1.0 - gate)


def tanh_of_softplus(x):
    t = np.tanh(np.logaddexp(0.0, x))
    return t, (1.0 - t * t) * logistic(x)[0]


CASES = {
    "gelu": (normal, {}),
    "gelu by tanh": (by_tanh, {"approximate": "tanh"}),
    "silu": (logistic, {}),
    "mish": (tanh_of_softplus, {}),
}


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


def both_ways(case, x, dy):
    name, options = case.split()[0], CASES[case][1]
    y, ctx = getattr(functional, f"{name}_forward")(x, **options)
    return y, getattr(functional, f"{name}_backward")(dy, ctx)


@pytest.mark.parametrize("case", CASES)
def test_the_definition(case, rng):
    x = np.concatenate([np.linspace(-120.0, 120.0, 20011), rng.normal(size=5000)]).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    wide = x.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        gate, slope = CASES[case][0](wide)
    y, dx = both_ways(case, x, dy)
    assert y.dtype == dx.dtype == np.float32
    np.testing.assert_allclose(y, wide * gate, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dx, dy * (gate + wide * slope), rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize("case", ["mish", "silu"])
def test_digits_of_small_gradients(case):
    """The normal density vanishes too early for this to matter to gelu."""
    x = np.linspace(-80.0, -5.0, 1001).astype(np.float32)
    dx = both_ways(case, x, np.ones_like(x))[1]
    wide = x.astype(np.float64)
    gate, slope = logistic(wide)  # of mish too, but for exp(2x)
    np.testing.assert_allclose(dx, gate + wide * slope, rtol=2e-5 if case == "silu" else 2e-2)


@pytest.mark.parametrize("case", CASES)
def test_numbers_that_are_none_and_ends(case):
    x = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0], np.float32)
    y, dx = both_ways(case, x, np.ones_like(x))
    np.testing.assert_allclose(y, [np.nan, np.inf, 0.0, 3e38, 0.0, 0.0], atol=1e-30)
    np.testing.assert_allclose(dx[:5], [np.nan, 1.0, 0.0, 1.0, 0.0], atol=1e-30)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(7, 3, 5, 3), (21, 15), (13,)])
def test_any_memory_order_and_number_of_threads(case, shape, monkeypatch, rng):
    monkeypatch.setattr(team, "PART", 1)
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    expected = both_ways(case, x, dy)
    inner = [
        np.array(a.transpose(*range(1, a.ndim), 0), order="C").transpose(a.ndim - 1, *range(a.ndim - 1))
        for a in (x, dy)
    ]
    for threads, given in ((3, (x, dy)), (1, inner), (3, (inner[0], dy)), (1, (x[::-1][::-1], dy))):
        monkeypatch.setattr(team, "threads_allowed", lambda threads=threads: threads)
        before = [a.copy() for a in given]
        for got, wanted in zip(both_ways(case, *given), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
        for a, old in zip(given, before, strict=True):
            np.testing.assert_array_equal(a, old)


@pytest.mark.parametrize("name", ["gelu", "mish", "silu"])
def test_the_loops_are_what_runs_in_float32_alone(name, monkeypatch, rng):
    x = rng.normal(size=(4, 2, 3, 3))
    for way in ("forward", "backward"):
        assert find(f"{name}_{way}", np) is getattr(gated, f"{name}_{way}")
    wide = both_ways(name, x, np.ones_like(x))
    assert wide[0].dtype == np.float64
    for way in ("forward", "backward"):
        monkeypatch.setattr(gated.gated, f"{name}_{way}", None)
    narrow = both_ways(name, x.astype(np.float32), np.ones(x.shape, np.float32))
    for one, other in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
