"""Depthwise convolution compiled by Numba, against torch: any geometry, sizes that fill vectors or do not, threads."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.functional.test_conv import output_pixels, torch_conv2d
from tests.reference import torch_gradients
from xpnet import config
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.kernels import agnostic, find, table, team
from xpnet.kernels.compiled import depthwise, loader, runs
from xpnet.kernels.geometry import make_window

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")

NAMES = ("depthwise_conv2d_forward", "depthwise_conv2d_backward", "depthwise_conv2d_input_gradient",
         "depthwise_conv2d_relu_forward")  # fmt: skip
WITHOUT = (depthwise.depthwise, agnostic.depthwise, depthwise.depthwise, agnostic.relu)  # what they fall back on


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


def everything(x, W, b, dy, **window):
    y, ctx = conv2d_forward(x, W, b, groups=x.shape[1], **window)
    return [y, *conv2d_backward(dy, ctx)]


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_geometry_against_torch(dtype, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    kernel, size = (draw(1, 5), draw(1, 5)), (draw(1, 12), draw(1, 12))
    stride, dilation = (draw(1, 4), draw(1, 4)), (draw(1, 3), draw(1, 3))
    padding = ((draw(0, 5), draw(0, 5)), (draw(0, 5), draw(0, 5)))
    assume(all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)))
    rng, C = np.random.default_rng(draw(0, 99)), draw(2, 4)
    x = rng.standard_normal((data.draw(st.sampled_from([1, 2, 5, 8, 17, 33, 40, 71])), C, *size))
    W = rng.standard_normal((C * draw(1, 2), 1, *kernel))
    b = rng.standard_normal(len(W))
    y, ctx = conv2d_forward(x, W, b, stride, padding, dilation, C)
    assert ctx.algorithm == "direct"
    dy = rng.standard_normal(y.shape)
    wanted, gradients = torch_gradients(torch_conv2d(stride, padding, dilation, C), (x, W, b), dy)
    given_arrays = [a.astype(dtype) for a in (x, W, b, dy)]
    made = everything(*given_arrays, stride=stride, padding=padding, dilation=dilation)
    close = 1e-12 if dtype == "float64" else 1e-5
    for got, expected in zip(made, (wanted, *gradients), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, atol=close * (1.0 + np.abs(expected).max()) * 5, rtol=close)
    rectified = conv2d_forward(*given_arrays[:3], stride, padding, dilation, C, activation="relu")[0]
    np.testing.assert_array_equal(rectified, np.maximum(made[0], 0.0))


def test_the_loops_are_what_runs(monkeypatch, rng):
    """And not what they fall back on."""
    for name in NAMES:
        assert find(name, np) is getattr(depthwise, name)
    for module, name in zip(WITHOUT, NAMES, strict=True):
        monkeypatch.setattr(module, name, None)
    x, W = rng.standard_normal((8, 3, 6, 6)), rng.standard_normal((3, 1, 3, 3))
    everything(x, W, None, np.ones((8, 3, 4, 4)))
    conv2d_forward(x, W, groups=3, activation="relu")


def test_small_work_and_half_floats_are_left_to_others(monkeypatch, rng):
    x, W, dy = (rng.standard_normal(s).astype(np.float16) for s in ((2, 3, 5, 5), (3, 1, 3, 3), (2, 3, 3, 3)))
    monkeypatch.setattr(loader, "kernel", lambda *given: pytest.fail("compiled"))
    assert everything(x, W, None, dy)[1].dtype == np.float16
    monkeypatch.setattr(loader, "SMALL", 10**6)
    everything(*(a.astype(np.float32) for a in (x, W)), None, dy.astype(np.float32))


@pytest.mark.parametrize("stride", [1, 2])
def test_any_number_of_threads_gives_the_same_bits(stride, monkeypatch, rng):
    x, W = rng.standard_normal((33, 7, 9, 9), dtype=np.float32), rng.standard_normal((14, 1, 3, 3), dtype=np.float32)
    size = (9 - 1) // stride + 1
    dy, b = rng.standard_normal((33, 14, size, size), dtype=np.float32), np.ones(14, np.float32)
    monkeypatch.setattr(team, "PART", 1)
    results = []
    for threads in (1, 3):
        for module in (team, runs):
            monkeypatch.setattr(module, "threads_allowed", lambda threads=threads: threads)
        results.append(everything(x, W, b, dy, stride=stride, padding=1)[:3])  # db is a product of BLAS
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


def test_what_is_kept_of_a_window_is_small_and_serves_any_batch():
    window = make_window("conv2d", (56, 56), 56, 56)
    (lists, _), first = runs.readers(window, 1, 32), runs._readers.cache_info()
    assert sum(one.nbytes for one in lists) < 1_000_000  # 56 * 56 rows and phases, of one tap each
    np.testing.assert_array_equal(runs.readers(window, 1, 8)[0][0] * 4, lists[0])
    assert runs._readers.cache_info().currsize == first.currsize


def test_arguments_may_be_read_only_and_stay_as_they_are(rng):
    given_arrays = [rng.standard_normal(s) for s in ((9, 3, 6, 6), (6, 1, 3, 3), (6,), (9, 6, 4, 4))]
    before = [a.copy() for a in given_arrays]
    for a in given_arrays:
        a.flags.writeable = False
    everything(*given_arrays)
    for a, old in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(a, old)


def test_numbers_that_are_none_go_where_they_are_read(rng):
    x, W = rng.standard_normal((16, 2, 6, 6)), rng.standard_normal((2, 1, 3, 3))
    x[3, 1, 0, 0], x[5, 0, 5, 5] = np.nan, np.inf
    with config.using(compiled="off"):
        expected = conv2d_forward(x, W, groups=2)[0]
    y, rectified = (conv2d_forward(x, W, groups=2, activation=name)[0] for name in (None, "relu"))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.isnan(rectified), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(expected))
    assert ("compiled", NAMES[0]) in table.registered()
