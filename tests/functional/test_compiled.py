"""Kernels compiled by Numba: sizes that fill vectors and blocks or do not, numbers that are none, threads, fallback."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.reference import naive_conv2d
from xpnet import config
from xpnet.functional import (
    batch_norm_backward,
    batch_norm_forward,
    conv2d_backward,
    conv2d_forward,
    pool2d_backward,
    pool2d_forward,
)
from xpnet.functional.norm import batch_norm_backward_of_new
from xpnet.kernels import find, team
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


@needs_numba
@pytest.mark.usefixtures("all_sizes")
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


@needs_numba
@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("overwrite", [False, True])
def test_relu_of_any_number(overwrite, rng):
    x = in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0))
    x[0, 0, :, 0] = [np.nan, np.inf, -np.inf, -0.0, 0.0]
    before = x.copy()
    np.testing.assert_array_equal(find("relu_forward", np)(x, overwrite), np.maximum(before, 0.0))
    assert overwrite or np.array_equal(x, before, equal_nan=True)


@needs_numba
@pytest.mark.usefixtures("all_sizes")
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


@needs_numba
@pytest.mark.usefixtures("all_sizes")
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


@needs_numba
@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_gradient_of_relu_and_its_sums(overwrite, rng):
    dy, y = (in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0)) for _ in range(2))
    before = dy.copy()
    dx, db = find("relu_bias_backward", np)(dy, y, True, overwrite)
    expected = np.where(y > 0.0, before, 0.0)
    np.testing.assert_array_equal(dx, expected)
    assert_close(db, expected.sum(axis=(0, 2, 3), dtype=np.float64).astype(np.float32))
    assert overwrite or np.array_equal(dy, before)


@needs_numba
@pytest.mark.usefixtures("all_sizes")
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
@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_other_byte_order_is_left_to_numpy(dtype, rng):
    """Numba does not know it."""
    x = rng.standard_normal((4, 3, 6, 6)).astype(dtype)
    other = x.astype(x.dtype.newbyteorder())
    for act in (lambda a: pool2d_forward(a, 2)[0], lambda a: pool2d_forward(a, 3, 1)[0],
                lambda a: find("relu_forward", np)(a, False), lambda a: find("silu_forward", np)(a)):  # fmt: skip
        np.testing.assert_allclose(act(other), act(x), rtol=1e-5)


@needs_numba
@pytest.mark.usefixtures("all_sizes")
def test_the_gradient_of_batch_norm_over_a_read_only_dy_is_elsewhere(rng):
    x, dy = (in_memory(rng.standard_normal((9, 4, 5, 3)).astype(np.float32), (1, 2, 3, 0)) for _ in range(2))
    _, ctx, *_ = batch_norm_forward(x, *np.ones((4, 4), np.float32), train=True)
    expected, dy.flags.writeable = batch_norm_backward(dy, ctx), False
    for got, wanted in zip(batch_norm_backward_of_new(dy, ctx), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


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


@needs_numba
def test_what_fails_to_compile_is_said_and_done_by_the_others(monkeypatch, caplog, rng):
    def broken(dtype):
        raise RuntimeError("no such processor")

    broken.dtypes = "fd"
    monkeypatch.setattr(loader, "_try", loader._try.__wrapped__)
    monkeypatch.setattr(loader.module("_conv_loops"), "convolve", broken)
    x, W = rng.standard_normal((64, 4, 12, 12)), rng.standard_normal((8, 4, 3, 3))
    with caplog.at_level(logging.WARNING, logger="xpnet"):
        y = conv2d_forward(x, W)[0]
    assert "convolve compiled by Numba is not used: RuntimeError: no such processor" in caplog.text
    with config.using(compiled="off"):
        np.testing.assert_array_equal(y, conv2d_forward(x, W)[0])


def test_off_and_agnostic_leave_the_compiled_kernels_out():
    with config.using(compiled="off"):
        assert find("conv2d_forward", np).__module__ == "xpnet.kernels.numpy.conv"
    with config.using(kernels="agnostic"):
        assert find("conv2d_forward", np).__module__ == "xpnet.kernels.agnostic.conv"


@needs_numba
def test_numba_is_imported_for_work_worth_it_and_not_before():
    code = (
        "import sys, numpy as np, xpnet\n"
        "from xpnet.functional import conv2d_forward\n"
        "conv2d_forward(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))\n"
        "assert 'numba' not in sys.modules\n"
        "conv2d_forward(np.ones((64, 4, 12, 12)), np.ones((8, 4, 3, 3)))\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def kernel():
    """Return a function that makes a small kernel anew, as a new process would."""
    compile_module = loader.module("_compile")
    return lambda: compile_module.Kernel(doubled, lambda array: (array,))


def doubled(x):
    for i in range(x.size):
        x[i] *= 2.0


def runs(made) -> bool:
    x = np.ones(3, np.float32)
    made(x)
    return x.tolist() == [2.0, 2.0, 2.0]


@needs_numba
def test_machine_code_is_kept_until_a_source_changes(tmp_path, monkeypatch, kernel):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    hits = []
    for stamp in (1, 1, 2):
        monkeypatch.setattr(loader.module("_compile"), "_stamp", lambda stamp=stamp: stamp)
        made = kernel()(np.dtype("float32"))
        assert runs(made)
        hits.append(sum(made.stats.cache_hits.values()))
    assert hits == [0, 1, 0]


@needs_numba
def test_ctrl_c_waits_until_a_kernel_is_compiled():
    """LLVM's calls back into Python lose exceptions."""

    def signature(array):
        signal.raise_signal(signal.SIGINT)
        return (array,)

    kernel = loader.module("_compile").Kernel(doubled, signature)
    with pytest.raises(KeyboardInterrupt):
        kernel(np.dtype("float64"))
    x = np.ones(3)
    kernel(np.dtype("float64"))(x)  # it was finished: no second Ctrl-C
    np.testing.assert_array_equal(x, 2.0)


@needs_numba
def test_machine_code_that_cannot_be_kept_is_no_error(monkeypatch, kernel):
    """A package folder and a home that are both read-only, then a disk that is full."""
    caching = importlib.import_module("numba.core.caching")
    with monkeypatch.context() as patch:
        patch.setattr(caching.CacheImpl, "_locator_classes", [])
        assert runs(kernel()(np.dtype("float32")))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *arguments: None)
    assert runs(kernel()(np.dtype("float32")))
