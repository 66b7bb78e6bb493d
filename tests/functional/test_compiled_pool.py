"""Pooling compiled by Numba, against the standard-only kernels: any windows, ties, numbers that are none, threads."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.functional.test_conv import output_pixels
from xpnet.functional import pool2d_backward, pool2d_forward
from xpnet.kernels import find, team
from xpnet.kernels.compiled import loader, pool, runs
from xpnet.kernels.geometry import make_window
from xpnet.kernels.table import _TABLE

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


def both_ways(choose, x, dy, window, mode, include):
    """Return y and dx by the kernels that `choose` gives for their names."""
    y, places = choose("pool2d_forward")(x, window, mode, include)
    return y, choose("pool2d_backward")(dy, x if mode == "max" else None, y, places, window, mode, include)


def by_loops(name):
    return find(name, np)


def by_standard(name):
    return _TABLE["agnostic", name]


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_window(dtype, mode, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    kernel, size = (draw(1, 4), draw(1, 4)), (draw(1, 10), draw(1, 10))
    stride, dilation = (draw(1, 4), draw(1, 4)), (draw(1, 2), draw(1, 2))
    padding = ((draw(0, 3), draw(0, 3)), (draw(0, 3), draw(0, 3)))
    assume(all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)))
    window = make_window("pool2d", size, kernel, stride, padding, dilation, ceil_mode=data.draw(st.booleans()))
    include = data.draw(st.booleans())
    assume(mode == "max" or include or all(min(window.tap_counts(axis)) for axis in (0, 1)))  # no empty averages
    rng = np.random.default_rng(draw(0, 99))
    shape = data.draw(st.sampled_from([1, 3, 8, 19, 40])), draw(1, 3)
    x = rng.integers(-3, 4, (*shape, *size)).astype(dtype)  # with ties
    dy = rng.standard_normal((*shape, *window.output)).astype(dtype)
    got, expected = (both_ways(choose, x, dy, window, mode, include) for choose in (by_loops, by_standard))
    if mode == "max":
        np.testing.assert_array_equal(got[0], expected[0], strict=True)
    close = 1e-6 if dtype == "float32" else 1e-14
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=close, atol=20 * close)


@pytest.mark.parametrize("window", [(3, 2, 1), (3, 1, 1), (2, 1, 0)], ids=str)
def test_numbers_that_are_none_and_infinite_gradients(window, rng):
    kernel, stride, padding = window
    x = rng.standard_normal((17, 2, 6, 6)).astype(np.float32)
    x[3, 0, 2, 2], x[4, 1, 0, 0], x[5, 0] = np.nan, np.inf, -np.inf
    made = make_window("pool2d", (6, 6), (kernel,) * 2, (stride,) * 2, ((padding,) * 2,) * 2, (1, 1))
    dy = rng.standard_normal((17, 2, *made.output)).astype(np.float32)
    dy[6, 1, 1, 1] = np.inf
    with np.errstate(invalid="ignore"):
        got, expected = (both_ways(choose, x, dy, made, "max", True) for choose in (by_loops, by_standard))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["max", "average"])
def test_the_loops_are_what_runs_on_any_number_of_threads(mode, monkeypatch, rng):
    """And not what they fall back on; with the same bits."""
    monkeypatch.setattr(pool, "pool", None)
    monkeypatch.setattr(team, "PART", 1)
    x, dy = (rng.standard_normal((9, 5, n, n)).astype(np.float32) for n in (8, 4))
    window, results = make_window("pool2d", (8, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)), []
    for threads in (1, 3):
        for module in (team, runs):
            monkeypatch.setattr(module, "threads_allowed", lambda threads=threads: threads)
        results.append(both_ways(by_loops, x, dy, window, mode, True))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("N", [1, 16, 37])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=str)
def test_maximum_pooling_of_numbers_that_are_none_and_of_ties(size, N, rng):
    """Of equal pixels the first has the gradient; where there is a NaN none has."""
    x = np.moveaxis(rng.integers(0, 3, (2, *size, N)).astype(np.float32), -1, 0)
    x[rng.random(x.shape) < 0.1], x[rng.random(x.shape) < 0.1] = np.nan, -np.inf
    dy = rng.standard_normal((N, 2, size[0] // 2, size[1] // 2)).astype(np.float32)
    y, ctx = pool2d_forward(x, 2)
    dx = pool2d_backward(dy, ctx)
    expected_y, expected_dx = np.empty_like(y), np.zeros_like(x)
    for n, c, h, w in np.ndindex(y.shape):
        window = x[n, c, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
        expected_y[n, c, h, w] = window.max()
        if not np.isnan(window).any():
            i, j = np.unravel_index(window.argmax(), (2, 2))
            expected_dx[n, c, 2 * h + i, 2 * w + j] = dy[n, c, h, w]
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("N", [1, 16, 37])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=str)
def test_average_pooling_of_whole_and_of_broken_vectors(size, N, dtype, rng):
    x = rng.standard_normal((N, 3, *size)).astype(dtype)
    x[0, 1, 0, 1] = np.nan
    y, ctx = pool2d_forward(x, 2, mode="average")
    even = x[:, :, : size[0] // 2 * 2, : size[1] // 2 * 2].astype(np.float64)
    expected = even.reshape(N, 3, size[0] // 2, 2, size[1] // 2, 2).mean(axis=(3, 5))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    dx, shared = pool2d_backward(y, ctx), np.zeros_like(x)
    shared[:, :, : even.shape[2], : even.shape[3]] = y.repeat(2, axis=2).repeat(2, axis=3) / 4
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, shared)
