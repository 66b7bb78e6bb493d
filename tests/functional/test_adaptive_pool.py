"""Global and adaptive pooling: against torch, pool2d and worked numbers; ties, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import torch_gradients
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional import (
    adaptive_pool2d_backward,
    adaptive_pool2d_forward,
    global_pool2d_backward,
    global_pool2d_forward,
    pool2d_backward,
    pool2d_forward,
)
from xpnet.testing import assert_close


def distinct(rng, shape):
    return (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2) / 7.0


@settings(max_examples=80)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    output=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    mode=st.sampled_from(["max", "average"]),
    seed=st.integers(0, 99),
)
def test_adaptive_against_torch(shape, output, mode, seed):
    def pool(x):
        import torch.nn.functional as T

        return (T.adaptive_max_pool2d if mode == "max" else T.adaptive_avg_pool2d)(x, output)

    rng = np.random.default_rng(seed)
    x, dy = distinct(rng, shape), rng.standard_normal((*shape[:2], *output))
    expected, (dx,) = torch_gradients(pool, (x,), dy)
    for dtype in ("float64", "float32"):
        y, ctx = adaptive_pool2d_forward(x.astype(dtype), output, mode=mode)
        assert_close(y, expected, terms=25)
        assert_close(adaptive_pool2d_backward(dy.astype(dtype), ctx), dx, terms=25)


@pytest.mark.parametrize("output", [1, 2, (3, 5), 7])
@pytest.mark.parametrize("mode", ["max", "average"])
def test_adaptive_on_every_library(xp, output, mode, rng):
    def pool(x):
        import torch.nn.functional as T

        return (T.adaptive_max_pool2d if mode == "max" else T.adaptive_avg_pool2d)(x, output)

    x = distinct(rng, (2, 3, 7, 5))
    y, ctx = adaptive_pool2d_forward(xp.asarray(x), output, mode=mode)
    dy = rng.standard_normal(tuple(y.shape))
    expected, (dx,) = torch_gradients(pool, (x,), dy)
    assert_close(y, expected, terms=25)
    assert_close(adaptive_pool2d_backward(xp.asarray(dy), ctx), dx, terms=25)


@pytest.mark.parametrize("mode, p", [("max", 2), ("average", 2), ("lp", 1), ("lp", 2), ("lp", 3.5)])
def test_global_is_one_window_over_all(xp, mode, p, rng):
    x, dy = xp.asarray(rng.standard_normal((3, 2, 4, 5))), rng.standard_normal((3, 2))
    y, ctx = global_pool2d_forward(x, mode=mode, p=p)
    window, window_ctx = pool2d_forward(x, (4, 5), mode=mode, p=p)
    assert tuple(y.shape) == (3, 2)
    assert_close(y, xp.to_numpy(window)[:, :, 0, 0], terms=20)
    dx = global_pool2d_backward(xp.asarray(dy), ctx)
    theirs = pool2d_backward(xp.asarray(dy[:, :, None, None]), window_ctx)
    assert_close(dx, xp.to_numpy(theirs), terms=20)
    kept, kept_ctx = global_pool2d_forward(x, mode=mode, p=p, keepdims=True)
    assert tuple(kept.shape) == (3, 2, 1, 1)
    np.testing.assert_array_equal(xp.to_numpy(kept)[:, :, 0, 0], xp.to_numpy(y))
    again = global_pool2d_backward(xp.asarray(dy[:, :, None, None]), kept_ctx)
    np.testing.assert_array_equal(xp.to_numpy(again), xp.to_numpy(dx))
    assert (ctx.x is None) == (mode == "average")


def test_bins_by_hand(xp):
    x = xp.asarray([[[[1.0, 2.0, 3.0, 4.0, 9.0]]]])
    assert xp.to_numpy(adaptive_pool2d_forward(x, (1, 2))[0]).tolist() == [[[[2, 16 / 3]]]]
    y, ctx = adaptive_pool2d_forward(x, (1, 2), mode="max")
    assert xp.to_numpy(y).tolist() == [[[[3, 9]]]]
    dx = adaptive_pool2d_backward(xp.asarray([[[[5.0, 7.0]]]]), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[0, 0, 5, 0, 7]]]]


@pytest.mark.parametrize("pool", ["global", "adaptive"])
def test_first_of_equal_maxima_gets_the_gradient(xp, pool):
    x = xp.asarray([[[[0.0, 3.0], [3.0, 3.0]]]])
    if pool == "global":
        dx = global_pool2d_backward(xp.asarray([[2.0]]), global_pool2d_forward(x, mode="max")[1])
    else:
        dx = adaptive_pool2d_backward(xp.asarray([[[[2.0]]]]), adaptive_pool2d_forward(x, 1, mode="max")[1])
    assert xp.to_numpy(dx).tolist() == [[[[0, 2], [0, 0]]]]


def test_large_and_many_numbers(xp):
    """A norm of what has no square in float32, and zeros; an average that float16 could not add up."""
    x = xp.asarray(np.full((1, 1, 2, 2), 1e30), "float32")
    y, ctx = global_pool2d_forward(x, mode="lp")
    np.testing.assert_allclose(xp.to_numpy(y), 2e30, rtol=1e-6)
    np.testing.assert_allclose(xp.to_numpy(global_pool2d_backward(y / 2e30, ctx)), 0.5, rtol=1e-6)
    y, ctx = global_pool2d_forward(xp.asarray(np.zeros((1, 1, 2, 2))), mode="lp")
    assert not xp.to_numpy(y).any()
    assert not xp.to_numpy(global_pool2d_backward(y + 1.0, ctx)).any()
    if hasattr(xp.xp, "float16"):
        y, _ = global_pool2d_forward(xp.asarray(np.full((1, 1, 64, 64), 100.0), "float16"))
        assert xp.to_numpy(y).tolist() == [[100]]


@pytest.mark.parametrize("mode", ["average", "max"])
def test_overlapping_bins_of_half_floats_are_summed_in_float32(xp, mode, rng):
    """Nine bins of 2x2 in 4x4 pixels, four of which meet in the middle."""
    if not hasattr(xp.xp, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    x = rng.permutation(192).reshape(3, 4, 4, 4).astype("float64")
    dy = rng.uniform(10, 20, (3, 4, 3, 3)).astype("float16").astype("float64")
    _, ctx = adaptive_pool2d_forward(xp.asarray(x, "float16"), 3, mode=mode)
    dx = adaptive_pool2d_backward(xp.asarray(dy, "float16"), ctx)
    assert dx.dtype == xp.xp.float16
    wide = adaptive_pool2d_backward(dy, adaptive_pool2d_forward(x, 3, mode=mode)[1])
    np.testing.assert_allclose(xp.to_numpy(dx), wide, rtol=5e-4)  # one rounding


X = np.ones((2, 3, 5, 6))


@pytest.mark.parametrize(
    "function, arguments, error, message",
    [
        (global_pool2d_forward, {"x": X[0]}, ShapeError, "global_pool2d: x must have 4 axes (N, C, H, W), got shape"),
        (global_pool2d_forward, {"x": X.astype(int)}, DTypeError, "global_pool2d: x must hold floating-point numbers"),
        (
            global_pool2d_forward,
            {"x": X, "mode": "mean"},
            ArgumentError,
            "global_pool2d: mode must be one of max, average, lp, got 'mean'",
        ),
        (
            global_pool2d_forward,
            {"x": X, "mode": "lp", "p": 0},
            ArgumentError,
            "global_pool2d: p must be a finite number of at least 1, got 0",
        ),
        (
            adaptive_pool2d_forward,
            {"x": X, "output_size": 2, "mode": "lp"},
            ArgumentError,
            "adaptive_pool2d: mode must be one of max, average, got 'lp'",
        ),
        (
            adaptive_pool2d_forward,
            {"x": X, "output_size": (2, 0)},
            ArgumentError,
            "adaptive_pool2d: output_size must be at least 1, got (2, 0)",
        ),
        (
            adaptive_pool2d_forward,
            {"x": X, "output_size": None},
            ArgumentError,
            "adaptive_pool2d: output_size must be an int or a pair of ints, got None",
        ),
    ],
)
def test_refusals(function, arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        function(**arguments)
