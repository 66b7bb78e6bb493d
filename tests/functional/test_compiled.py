"""Convolution compiled by Numba: sizes that fill vectors and blocks or do not, numbers that are none, threads."""

from __future__ import annotations

import importlib
import importlib.util
import math
import threading

import numpy as np
import pytest

from tests.reference import naive_conv2d
from xpnet import config
from xpnet.functional import (
    conv2d_backward,
    conv2d_forward,
)
from xpnet.kernels import team
from xpnet.kernels.compiled import conv, loader
from xpnet.kernels.geometry import make_window
from xpnet.testing import assert_close

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")

# C, F, kernel, height, width, N, stride, padding, dilation
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1, 0, 1),
    (3, 7, 3, 9, 8, 33, 2, 1, 1),
    (5, 13, (2, 3), 9, 11, 40, (3, 2), ((1, 0), (2, 1)), (2, 1)),
    (4, 20, 3, 12, 12, 100, 1, 1, 1),
    (2, 3, 3, 7, 9, 5, 1, "full", (1, 2)),
    (8, 6, 5, 10, 10, 128, 1, 2, 1),
    (3, 2, 1, 6, 6, 3, 2, 0, 1),
    (16, 16, 3, 8, 8, 64, 1, 1, 1),
    (6, 5, (3, 2), 11, 9, 17, (2, 3), ((3, 0), (2, 1)), 1),
    (4, 7, 2, 9, 9, 16, 3, 0, 1),
    (5, 3, (4, 5), 8, 10, 8, (3, 2), ((0, 2), (6, 0)), 1),
    (4, 2, 3, 6, 6, 9, 1, 4, 1),
]


@pytest.fixture
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)


def convolve(x, W, b, dy_rng, **window):
    y, ctx = conv2d_forward(x, W, b, algorithm="gemm", **window)
    dy = dy_rng.standard_normal(y.shape).astype(y.dtype)
    return [y, *conv2d_backward(dy, ctx)]


@needs_numba
@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("workspace", ["4MB", "50KB"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_in_blocks_of_all_kinds(shape, workspace, dtype, rng):
    C, F, kernel, H, W_, N, stride, padding, dilation = shape
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    x = np.moveaxis(rng.standard_normal((C, H, W_, N)).astype(dtype), -1, 0)
    W, b = rng.standard_normal((F, C, *kernel)).astype(dtype), rng.standard_normal(F).astype(dtype)
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    results = []
    for compiled in ("auto", "off"):
        with config.using(compiled=compiled, conv_workspace=workspace):
            results.append(convolve(x, W, b, np.random.default_rng(1), **window))
    for got, expected in zip(*results, strict=True):
        assert got.dtype == dtype
        terms = max(C * math.prod(kernel), F * math.prod(kernel), N * results[0][0].shape[2] * results[0][0].shape[3])
        assert_close(got, expected, terms=terms)


@needs_numba
@pytest.mark.usefixtures("all_sizes")
def test_the_gradient_of_a_stride_is_made_of_convolutions(monkeypatch, rng):
    """Every second pixel of a row meets no tap of a kernel that is one wide."""
    monkeypatch.setattr(conv.conv, "conv2d_input_gradient", lambda *given: pytest.fail("left to NumPy"))
    x, W = rng.standard_normal((8, 4, 7, 6)), rng.standard_normal((3, 4, 2, 1))
    _, dx, dW, _ = convolve(x, W, None, rng, stride=2)
    assert dW.shape == W.shape
    assert np.count_nonzero(dx) == np.count_nonzero(dx[:, :, :6, ::2]) == 8 * 4 * 6 * 3


@needs_numba
@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("N", [1, 16, 21])
def test_what_is_not_finite_stays_where_it_belongs(N, rng):
    """One infinite and one NaN pixel; the products of the vectors' unused parts reach no result."""
    x = np.moveaxis(rng.standard_normal((2, 5, 4, N)), -1, 0)
    x[N // 2, 1, 2, 3], x[0, 0, 0, 0] = np.inf, np.nan
    W, dy = rng.standard_normal((3, 2, 2, 2)), rng.standard_normal((N, 3, 4, 3))
    with np.errstate(invalid="ignore"):
        y, ctx = conv2d_forward(x, W, algorithm="gemm")
        _, dW, _ = conv2d_backward(dy, ctx)
        expected = naive_conv2d(x, W)
        assert_close(np.nan_to_num(y), np.nan_to_num(expected), terms=8)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    with config.using(compiled="off"), np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isfinite(dW), np.isfinite(conv2d_backward(dy, ctx)[1]))


@needs_numba
@pytest.mark.usefixtures("all_sizes")
def test_arguments_may_be_read_only_and_stay_as_they_are(rng):
    x, W = rng.standard_normal((4, 3, 6, 6)), rng.standard_normal((5, 3, 3, 3))
    b = rng.standard_normal(5)
    before = [a.copy() for a in (x, W, b)]
    for a in (x, W, b):
        a.flags.writeable = False
    convolve(x, W, b, rng, padding=1)
    for a, old in zip((x, W, b), before, strict=True):
        np.testing.assert_array_equal(a, old)


@needs_numba
@pytest.mark.parametrize("steps", [(-1, 1), (2, 1), (1, 2)])
def test_a_row_lies_whole_whatever_the_steps_of_an_array(steps, rng):
    """As one axis, each of them can be a view with steps."""
    W = rng.standard_normal((6, 1, 1, 8)).astype(np.float32)[:: steps[0], :, :, : 8 if steps[1] == 2 else 1]
    W = W[..., :: steps[1]]
    assert not W.reshape(-1).flags.c_contiguous
    row = loader.flat(W)
    assert row.flags.c_contiguous
    assert row.flags.writeable
    np.testing.assert_array_equal(row.reshape(W.shape), W)


@needs_numba
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, rng):
    x, W = rng.standard_normal((32, 8, 20, 20), dtype=np.float32), rng.standard_normal((16, 8, 3, 3), dtype=np.float32)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(team, "threads_allowed", lambda threads=threads: threads)
        results.append(convolve(x, W, np.ones(16, np.float32), np.random.default_rng(2), padding=1))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


@needs_numba
def test_a_workspace_that_grows_with_the_threads_changes_no_bits(rng):
    """Of many filters, rows of dy in scratch memory would otherwise be as long as there is room for."""
    x, dy = rng.standard_normal((128, 1, 28, 28), np.float32), rng.standard_normal((128, 512, 28, 28), np.float32)
    window = make_window("conv2d", (28, 28), 3, 1, 1)
    made = []
    for workspace in ("4MB", "16MB"):
        with config.using(conv_workspace=workspace):
            made.append(conv.conv2d_backward(dy, x, np.ones((512, 1, 3, 3), np.float32), window, 1, False, False)[1])
    np.testing.assert_array_equal(*made)


@needs_numba
def test_threads_that_convolve_at_once_do_not_disturb_each_other(monkeypatch, rng):
    monkeypatch.setattr(team, "threads_allowed", lambda: 2)
    xs = [rng.standard_normal((32, 4 + i, 12, 12)) for i in range(4)]
    Ws = [rng.standard_normal((16, 4 + i, 3, 3)) for i in range(4)]
    expected = [convolve(x, W, None, np.random.default_rng(3)) for x, W in zip(xs, Ws, strict=True)]
    wrong = []

    def work(i):
        for _ in range(5):
            for got, wanted in zip(convolve(xs[i], Ws[i], None, np.random.default_rng(3)), expected[i], strict=True):
                if wanted is not None and not np.array_equal(got, wanted):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
