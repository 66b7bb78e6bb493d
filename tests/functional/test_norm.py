"""Batch normalisation: against plain loops and torch, running statistics, large means, half floats, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference import naive_batch_norm, torch_gradients
from xpnet import backend
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional import batch_norm_backward, batch_norm_forward
from xpnet.functional.norm import batch_norm_backward_of_new
from xpnet.testing import TOLERANCES, assert_close

SHAPES = [(5, 3), (2, 3, 4, 5), (1, 2, 3, 3), (2, 1, 1, 1), (7, 1)]


def arguments(shape, rng, affine=True):
    C = shape[1]
    gamma, beta = (rng.standard_normal(C), rng.standard_normal(C)) if affine else (None, None)
    return [rng.standard_normal(shape) * 2 + 1, gamma, beta, rng.standard_normal(C), rng.random(C) + 0.5]


def on(xp, host, dtype="float64"):
    return [None if a is None else xp.asarray(a, dtype) for a in host]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_loops_and_torch(xp, shape, train, affine, rng):
    host = arguments(shape, rng, affine)
    x, gamma, beta, mean, var = host
    dy, terms = rng.standard_normal(shape), x.size // shape[1]
    y, *_ = naive_batch_norm(x, gamma, beta, 1e-3, None if train else mean, None if train else var)
    for dtype in ("float64", "float32"):
        got, ctx, *_ = batch_norm_forward(*on(xp, host, dtype), train=train, eps=1e-3)
        assert_close(got, y, terms=terms)

    def torch_batch_norm(x, gamma=None, beta=None):
        import torch

        statistics = torch.tensor(mean), torch.tensor(var)
        return torch.nn.functional.batch_norm(x, *statistics, gamma, beta, train, 0.1, 1e-3)

    same, expected = torch_gradients(torch_batch_norm, (x, gamma, beta), dy)
    np.testing.assert_allclose(same, y, atol=1e-10)
    got, ctx, *_ = batch_norm_forward(*on(xp, host), train=train, eps=1e-3)
    for gradient, wanted in zip(batch_norm_backward(xp.asarray(dy), ctx), expected, strict=True):
        assert (gradient is None) == (wanted is None)
        if wanted is not None:
            assert_close(gradient, wanted, terms=3 * terms)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 3, 0), (0, 2, 3, 1)])
def test_gradients_written_over_dy(xp, train, activation, order, rng):
    if xp.name == "numpy-readonly":
        pytest.skip("nothing can be written over it")
    host = arguments((4, 3, 5, 2), rng)
    y, ctx, *_ = batch_norm_forward(*on(xp, host), train=train, activation=activation)
    dy = rng.standard_normal(tuple(y.shape))
    expected = [xp.to_numpy(g) for g in batch_norm_backward(xp.asarray(dy), ctx)]
    kept = [xp.to_numpy(a) for a in (ctx.x, ctx.mean, ctx.inv_std, y)]
    lying = xp.xp.permute_dims(xp.asarray(dy.transpose(order).copy()), tuple(np.argsort(order).tolist()))
    for got, wanted in zip(batch_norm_backward_of_new(lying, ctx), expected, strict=True):
        assert_close(got, wanted, terms=40)
    for a, before in zip((ctx.x, ctx.mean, ctx.inv_std, y), kept, strict=True):
        np.testing.assert_array_equal(xp.to_numpy(a), before)


@pytest.mark.parametrize("gamma, beta", [(True, False), (False, True)])
def test_scale_without_shift_and_the_other_way_round(xp, gamma, beta, rng):
    host = arguments((4, 3, 2, 2), rng)
    host[1:3] = [host[1] if gamma else None, host[2] if beta else None]
    y, ctx, *_ = batch_norm_forward(*on(xp, host), train=True)
    assert_close(y, naive_batch_norm(*host[:3])[0], terms=16)
    _, dgamma, dbeta = batch_norm_backward(xp.asarray(np.ones((4, 3, 2, 2))), ctx)
    assert (dgamma is not None, dbeta is not None) == (gamma, beta)


def test_output_of_training_has_mean_zero_and_variance_one(xp, rng):
    host = arguments((8, 3, 4, 4), rng, affine=False)
    y = xp.to_numpy(batch_norm_forward(*on(xp, host), train=True, eps=1e-12)[0])
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), np.zeros(3), atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), np.ones(3), atol=1e-10)


# --- running statistics --------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 2)])
def test_running_statistics_take_the_unbiased_variance(xp, shape, momentum, rng):
    host = arguments(shape, rng)
    given = on(xp, host)
    _, _, mean, var = batch_norm_forward(*given, train=True, momentum=momentum)
    _, batch_mean, biased = naive_batch_norm(*host[:3])
    count = host[0].size // shape[1]
    assert_close(mean, (1 - momentum) * host[3] + momentum * batch_mean, terms=count)
    assert_close(var, (1 - momentum) * host[4] + momentum * biased * count / (count - 1), terms=count)
    for array, before in zip(given[3:], host[3:], strict=True):
        np.testing.assert_array_equal(xp.to_numpy(array), before, strict=True)


def test_inference_leaves_the_running_statistics(xp, rng):
    given = on(xp, arguments((5, 3), rng))
    _, _, mean, var = batch_norm_forward(*given, train=False)
    assert mean is given[3]
    assert var is given[4]


def test_inference_does_not_depend_on_the_batch(xp, rng):
    host = arguments((6, 3), rng)
    together = xp.to_numpy(batch_norm_forward(*on(xp, host), train=False)[0])
    alone = [batch_norm_forward(*on(xp, [host[0][n : n + 1], *host[1:]]), train=False)[0] for n in range(6)]
    np.testing.assert_allclose(together, np.concatenate([xp.to_numpy(y) for y in alone]), atol=1e-12)


# --- numbers that are hard -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_mean_and_small_spread(xp, dtype, rng):
    """Mean 1e4, deviation 1: E[x^2] - E[x]^2 would lose every digit of the variance in float32.

    The mean is exact to half a unit in its last place, 1e4 times that of y.
    """
    x = (rng.standard_normal((16, 3, 8, 8)) + 1e4).astype(dtype)
    zero, one = np.zeros(3), np.ones(3)
    y, ctx, _, var = batch_norm_forward(*on(xp, [x, None, None, zero, one], dtype), train=True, momentum=1.0)
    expected, _, biased = naive_batch_norm(x, None, None)
    unit = 1e4 * float(xp.xp.finfo(y.dtype).eps)
    assert_close(y, expected, atol=2 * unit, rtol=TOLERANCES[dtype])
    assert_close(var, biased * 1024 / 1023, atol=2 * unit, rtol=TOLERANCES[dtype])
    dy = rng.standard_normal(x.shape).astype(dtype)
    dx, *_ = batch_norm_backward(xp.asarray(dy), ctx)
    assert abs(xp.to_numpy(dx).sum(axis=(0, 2, 3))).max() < 1024 * 2 * unit


@pytest.mark.parametrize("mean, spread", [(1e4, 0.1), (-3e3, 0.02)])
def test_rounding_of_the_mean_is_corrected(xp, mean, spread, rng):
    """A unit in the last place of a float32 mean is 1e-3, a hundredth of the spread: y must not be off by that."""
    x = (rng.standard_normal((16, 3, 8, 8)) * spread + mean).astype("float32")
    given = [x, None, None, np.zeros(3), np.ones(3)]
    y, _, got, var = batch_norm_forward(*on(xp, given, "float32"), train=True, momentum=1.0, eps=1e-9)
    expected, batch_mean, biased = naive_batch_norm(x.astype("float64"), None, None, 1e-9)
    assert_close(y, expected, rtol=1e-5)
    np.testing.assert_allclose(xp.to_numpy(got), batch_mean, rtol=1.2e-7)
    np.testing.assert_allclose(xp.to_numpy(var), biased * 1024 / 1023, rtol=1e-5)


def test_constant_channel(xp):
    """Variance zero: y is beta, and nothing is divided by zero."""
    x, gamma, beta = np.full((4, 2), 3.0), np.ones(2), np.array([0.5, -1.0])
    y, ctx, _, var = batch_norm_forward(*on(xp, [x, gamma, beta, np.zeros(2), np.ones(2)], "float32"), train=True)
    assert xp.to_numpy(y).tolist() == [[0.5, -1.0]] * 4
    np.testing.assert_allclose(xp.to_numpy(var), [0.9, 0.9], rtol=1e-6)
    assert np.isfinite(xp.to_numpy(batch_norm_backward(y, ctx)[0])).all()


def test_half_floats_have_statistics_in_float32(rng):
    """A sum of squares of 300 values of 100 exceeds what float16 can hold; float32 statistics do not notice."""
    x = (rng.standard_normal((300, 2)) * 100).astype(np.float16)
    gamma, beta, mean, var = (
        np.ones(2, np.float16),
        np.zeros(2, np.float16),
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
    )
    y, ctx, mean, var = batch_norm_forward(x, gamma, beta, mean, var, train=True, momentum=1.0)
    expected, batch_mean, biased = naive_batch_norm(x, gamma, beta)
    assert y.dtype == np.float16
    assert mean.dtype == var.dtype == ctx.mean.dtype == ctx.inv_std.dtype == np.float32
    assert_close(y, expected)
    assert_close(mean, batch_mean, terms=300, atol=1e-3)
    assert_close(var, biased * 300 / 299, terms=300)


# --- refusals ------------------------------------------------------------------------------------

X, ONE = np.ones((4, 3, 2, 2)), np.ones(3)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_has_no_variance(xp, shape):
    given = on(xp, [np.ones(shape), ONE, ONE, ONE, ONE])
    with pytest.raises(
        ShapeError, match=re.escape(f"batch_norm: one value per channel has no variance (x.shape={shape}")
    ):
        batch_norm_forward(*given, train=True)
    assert tuple(batch_norm_forward(*given, train=False)[0].shape) == shape


@pytest.mark.parametrize(
    "changes, options, error, message",
    [
        ({0: np.ones((4, 3, 2))}, {}, ShapeError, "x must be (N, C) or (N, C, H, W), none empty, got shape (4, 3, 2)"),
        ({0: np.ones(3)}, {}, ShapeError, "x must be (N, C) or (N, C, H, W), none empty, got shape (3,)"),
        ({0: np.ones((0, 3))}, {}, ShapeError, "x must be (N, C) or (N, C, H, W), none empty, got shape (0, 3)"),
        ({1: np.ones(4)}, {}, ShapeError, "gamma must have shape (C,) = (3,) for x.shape=(4, 3, 2, 2), got (4,)"),
        ({2: np.ones((1, 3))}, {}, ShapeError, "beta must have shape (C,) = (3,) for x.shape=(4, 3, 2, 2), got (1, 3)"),
        (
            {3: np.ones(2)},
            {},
            ShapeError,
            "running_mean must have shape (C,) = (3,) for x.shape=(4, 3, 2, 2), got (2,)",
        ),
        ({4: np.ones(())}, {}, ShapeError, "running_var must have shape (C,) = (3,) for x.shape=(4, 3, 2, 2), got ()"),
        ({}, {"momentum": -0.1}, ArgumentError, "momentum must be between 0 and 1, got -0.1"),
        ({}, {"momentum": 1.5}, ArgumentError, "momentum must be between 0 and 1, got 1.5"),
        ({}, {"eps": 0.0}, ArgumentError, "eps must be above 0, got 0.0"),
        ({}, {"eps": -1e-5}, ArgumentError, "eps must be above 0, got -1e-05"),
        ({}, {"eps": float("nan")}, ArgumentError, "eps must be above 0, got nan"),
        ({0: np.ones((4, 3), int)}, {}, DTypeError, "x must hold floating-point numbers, got "),
    ],
)
def test_refusals(xp, changes, options, error, message):
    host = [changes.get(k, a) for k, a in enumerate([X, ONE, ONE, ONE, ONE])]
    given = [xp.asarray(a) for a in host]
    with pytest.raises(error, match="^batch_norm: " + re.escape(message)):
        batch_norm_forward(*given, train=True, **options)


def test_half_float_statistics_are_refused():
    half = np.float16
    with pytest.raises(TypeError, match=r"^batch_norm: .*float32.* but running_mean is .*float16"):
        batch_norm_forward(np.ones((4, 3), half), None, None, ONE.astype(half), ONE.astype(half), train=True)
    assert backend.dtype_name(ONE.dtype) == "float64"
