"""The activations beyond the book's: against torch on any shape, at the ends of the range, refusals."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet.functional as F
from tests.reference import torch_gradients
from xpnet.errors import ArgumentError, ArrayMismatchError, ShapeError
from xpnet.functional.exponential import SELU_ALPHA, SELU_SCALE


def nn():
    return pytest.importorskip("torch", reason="torch is the oracle here").nn.functional


# label -> name, settings, the same by torch, its value at -infinity and how its slope ends on either side
FAMILY = {
    "relu": ("relu", {}, lambda x: nn().relu(x), 0.0, (0, 1)),
    "sigmoid": ("sigmoid", {}, lambda x: x.sigmoid(), 0.0, (0, 0)),
    "tanh": ("tanh", {}, lambda x: x.tanh(), -1.0, (0, 0)),
    "identity": ("identity", {}, lambda x: x * 1.0, -math.inf, (1, 1)),
    "affine": ("affine", {"slope": 1.0, "intercept": 0.25}, lambda x: x + 0.25, -math.inf, (1, 1)),
    "step": ("step", {}, lambda x: (x > 0).to(x.dtype) + 0.0 * x, 0.0, (0, 0)),
    "leaky_relu": ("leaky_relu", {}, lambda x: nn().leaky_relu(x), -math.inf, (0.01, 1)),
    "leaky_relu 0.3": ("leaky_relu", {"slope": 0.3}, lambda x: nn().leaky_relu(x, 0.3), -math.inf, (0.3, 1)),
    "leaky_relu 2": ("leaky_relu", {"slope": 2.0}, lambda x: nn().leaky_relu(x, 2.0), -math.inf, (2, 1)),
    "elu": ("elu", {}, lambda x: nn().elu(x), -1.0, (0, 1)),
    "elu 0.5": ("elu", {"alpha": 0.5}, lambda x: nn().elu(x, 0.5), -0.5, (0, 1)),
    "elu 3": ("elu", {"alpha": 3.0}, lambda x: nn().elu(x, 3.0), -3.0, (0, 1)),
    "selu": ("selu", {}, lambda x: nn().selu(x), -SELU_SCALE * SELU_ALPHA, (0, SELU_SCALE)),
    "gelu": ("gelu", {}, lambda x: nn().gelu(x), 0.0, (0, 1)),
    "gelu tanh": ("gelu", {"approximate": "tanh"}, lambda x: nn().gelu(x, approximate="tanh"), 0.0, (0, 1)),
    "silu": ("silu", {}, lambda x: nn().silu(x), 0.0, (0, 1)),
    "mish": ("mish", {}, lambda x: nn().mish(x), 0.0, (0, 1)),
    "relu6": ("relu6", {}, lambda x: nn().relu6(x), 0.0, (0, 0)),
    "hard_sigmoid": ("hard_sigmoid", {}, lambda x: (0.2 * x + 0.5).clamp(0, 1), 0.0, (0, 0)),
    "hard_swish": ("hard_swish", {}, lambda x: nn().hardswish(x), 0.0, (0, 1)),
    "softplus": ("softplus", {}, lambda x: nn().softplus(x), 0.0, (0, 1)),
    "softsign": ("softsign", {}, lambda x: nn().softsign(x), -1.0, (0, 0)),
    "exponential": ("exponential", {}, lambda x: x.exp(), 0.0, (0, math.inf)),
}
every_one = pytest.mark.parametrize("label", FAMILY)


def pair(label):
    name, options, *_ = FAMILY[label]
    return lambda x: getattr(F, f"{name}_forward")(x, **options), getattr(F, f"{name}_backward")


@every_one
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 3e-5)])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (4, 3, 5, 6), (2, 1, 3, 2, 2)])
def test_against_torch(xp, label, shape, dtype, rtol, rng):
    x = (rng.standard_normal(shape) * 4).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    expected, (dx,) = torch_gradients(FAMILY[label][2], (x,), dy)
    forward, backward = pair(label)
    y, ctx = forward(xp.asarray(x))
    got = [xp.to_numpy(y), xp.to_numpy(backward(xp.asarray(dy), ctx))]
    for ours, theirs in zip(got, (expected, dx), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


@every_one
@settings(max_examples=30)
@given(shape=st.lists(st.integers(0, 4), max_size=5), seed=st.integers(0, 2**32), scale=st.sampled_from([1e-3, 1, 12]))
def test_any_shape(label, shape, seed, scale):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal(shape) * scale, rng.standard_normal(shape)
    expected, (dx,) = torch_gradients(FAMILY[label][2], (x,), dy)
    forward, backward = pair(label)
    y, ctx = forward(x)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(backward(dy, ctx), dx, rtol=1e-9, atol=1e-8)  # torch's softplus is a line from 20 on


@every_one
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_ends_of_the_range(xp, label, dtype):
    """No warning (an error here), no NaN, and the limits: at +-1e3, +-1e30 and infinity."""
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.backend_name} has no {dtype}")
    largest = 3e4 if dtype == "float16" else 1e30
    x = np.array([-math.inf, -largest, -1e3, 1e3, largest, math.inf])
    _, _, _, at_minus_infinity, (below, above) = FAMILY[label]
    forward, backward = pair(label)
    y, ctx = forward(xp.asarray(x, dtype))
    got, ones = xp.to_numpy(y).astype(np.float64), xp.asarray(np.ones(6), dtype)
    tolerance = {"float64": 1e-12, "float32": 1e-6, "float16": 2e-3}[dtype]
    assert not np.isnan(got).any()
    if math.isinf(at_minus_infinity):
        assert got[0] == -math.inf
        np.testing.assert_allclose(got[1:3], below * x[1:3], rtol=1e-3)
    else:
        np.testing.assert_allclose(got[:3], at_minus_infinity, atol=1e-2 if label == "softsign" else tolerance)
    if above not in (0, math.inf):
        np.testing.assert_allclose(got[3:5], above * x[3:5], rtol=1e-3)
    dx = xp.to_numpy(backward(ones, ctx)).astype(np.float64)
    flat = 2e-6 if label == "softsign" else tolerance
    np.testing.assert_allclose(dx, [below] * 3 + [above] * 3, atol=max(flat, tolerance), rtol=tolerance)


@every_one
def test_not_a_number_stays_one(xp, label):
    y, _ = pair(label)[0](xp.asarray([math.nan, 1.0]))
    assert np.isnan(xp.to_numpy(y)).tolist() == [label != "step", False]


def test_kinks(xp):
    """What the derivative is where there is none."""
    for label, x, slopes in (
        ("leaky_relu 0.3", [0.0], [0.3]),
        ("elu 0.5", [0.0], [0.5]),
        ("hard_sigmoid", [-2.5, 2.5], [0.0, 0.0]),
        ("relu6", [0.0, 6.0], [0.0, 0.0]),
        ("hard_swish", [-3.0, 3.0], [0.0, 1.0]),
    ):
        forward, backward = pair(label)
        _, ctx = forward(xp.asarray(x))
        assert xp.to_numpy(backward(xp.asarray(np.ones(len(x))), ctx)).tolist() == slopes


def test_small_results_keep_their_digits(xp):
    """Relative precision far below zero, where the output is almost nothing."""
    x = np.array([-700.0, -300.0, -30.0, -1e-9, 1e-300])
    for label, formula in (
        ("softplus", lambda v: math.log1p(math.exp(v))),
        ("silu", lambda v: v / (1 + math.exp(-v))),
        ("mish", lambda v: v * math.tanh(math.log1p(math.exp(v)))),
        ("elu", lambda v: v if v > 0 else math.expm1(v)),
        ("exponential", math.exp),
    ):
        y, _ = pair(label)[0](xp.asarray(x))
        np.testing.assert_allclose(xp.to_numpy(y), [formula(v) for v in x], rtol=1e-13, err_msg=label)


def test_exponential_beyond_the_float_type(xp):
    x = xp.asarray([88.0, 88.7, 88.8, 1e3], "float32")
    y, _ = F.exponential_forward(x)
    got = xp.to_numpy(y)
    np.testing.assert_allclose(got[:2], np.exp([88.0, 88.7]), rtol=1e-5)
    assert np.isinf(got[2:]).all()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("leaky_relu", {"slope": -0.1}, "slope must be finite and at least 0, got -0.1"),
        ("leaky_relu", {"slope": math.nan}, "slope must be finite and at least 0, got nan"),
        ("elu", {"alpha": -1}, "alpha must be finite and at least 0, got -1"),
        ("elu", {"alpha": math.inf}, "alpha must be finite and at least 0, got inf"),
        ("gelu", {"approximate": "erf"}, "approximate must be one of none, tanh, got 'erf'"),
        ("log_softmax", {"axis": 2}, "axis 2 of x is missing or empty (x.shape=(2, 3))"),
    ],
)
def test_refusals(xp, name, options, message):
    with pytest.raises(ArgumentError, match=f"^{name}: " + re.escape(message)):
        getattr(F, f"{name}_forward")(xp.asarray(np.ones((2, 3))), **options)


# --- prelu ---------------------------------------------------------------------------------------


def torch_prelu(x, slope):
    return nn().prelu(x, slope)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 3e-5)])
@pytest.mark.parametrize(
    "shape, slopes", [((4, 3), 3), ((4, 3), 1), ((2, 3, 4, 5), 3), ((2, 3, 4, 5), 1), ((2, 3, 4), 3), ((3, 1, 2, 2), 1)]
)
def test_prelu_against_torch(xp, shape, slopes, dtype, rtol, rng):
    x, slope = rng.standard_normal(shape).astype(dtype), rng.standard_normal(slopes).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    expected = torch_gradients(torch_prelu, (x, slope), dy)
    y, ctx = F.prelu_forward(xp.asarray(x), xp.asarray(slope))
    dx, dslope = F.prelu_backward(xp.asarray(dy), ctx)
    for ours, theirs in zip((y, dx, dslope), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(xp.to_numpy(ours), theirs, rtol=rtol, atol=10 * rtol)


@settings(max_examples=40)
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=5), one=st.booleans(), seed=st.integers(0, 2**32))
def test_prelu_of_any_shape(shape, one, seed):
    rng = np.random.default_rng(seed)
    x, dy, slope = rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(1 if one else shape[1])
    value, gradients = torch_gradients(torch_prelu, (x, slope), dy)
    y, ctx = F.prelu_forward(x, slope)
    for ours, theirs in zip((y, *F.prelu_backward(dy, ctx)), (value, *gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_prelu_with_one_slope_takes_any_shape(xp, shape):
    y, ctx = F.prelu_forward(xp.asarray(np.full(shape, -2.0)), xp.asarray([0.5]))
    dx, dslope = F.prelu_backward(xp.asarray(np.ones(shape)), ctx)
    assert (xp.to_numpy(y) == -1).all()
    assert (xp.to_numpy(dx) == 0.5).all()
    assert xp.to_numpy(dslope).tolist() == [-2.0 * math.prod(shape)]


@pytest.mark.parametrize(
    "x, slope, error, message",
    [
        ((2, 3), (2,), ShapeError, "slope must have shape (1,), or (C,) like axis 1 of x, got (2,) (x.shape=(2, 3))"),
        ((2, 3), (), ShapeError, "slope must have shape (1,), or (C,) like axis 1 of x, got () (x.shape=(2, 3))"),
        ((3,), (3,), ShapeError, "slope must have shape (1,), or (C,) like axis 1 of x, got (3,) (x.shape=(3,))"),
        ((2, 3), None, ArrayMismatchError, "x is "),
    ],
)
def test_prelu_refusals(xp, x, slope, error, message):
    slopes = xp.asarray([0.5], "float32") if slope is None else xp.asarray(np.ones(slope))
    with pytest.raises(error, match="^prelu: " + re.escape(message)):
        F.prelu_forward(xp.asarray(np.ones(x)), slopes)


# --- log softmax ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 3e-5)])
@pytest.mark.parametrize("shape, axis", [((5,), -1), ((3, 4), 0), ((2, 3, 2, 4), 1), ((2, 3, 2, 4), -1), ((2, 1), 1)])
def test_log_softmax_against_torch(xp, shape, axis, dtype, rtol, rng):
    x, dy = (rng.standard_normal(shape) * 3).astype(dtype), rng.standard_normal(shape).astype(dtype)
    expected, (dx,) = torch_gradients(lambda t: t.log_softmax(dim=axis), (x,), dy)
    y, ctx = F.log_softmax_forward(xp.asarray(x), axis=axis)
    np.testing.assert_allclose(xp.to_numpy(y), expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(xp.to_numpy(F.log_softmax_backward(xp.asarray(dy), ctx)), dx, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    "row, expected",
    [([1e3, 1e3], [-math.log(2)] * 2), ([1e3, -1e3], [0.0, -2e3]), ([0.0, -math.inf], [0.0, -math.inf])],
)
def test_log_softmax_at_the_ends_of_the_range(xp, row, expected, dtype):
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.backend_name} has no {dtype}")
    y, ctx = F.log_softmax_forward(xp.asarray([row], dtype))
    lowest = float(np.finfo(dtype).min) if dtype == "float16" else -math.inf
    np.testing.assert_allclose(xp.to_numpy(y), [np.maximum(expected, lowest)], rtol=1e-3)
    dx = F.log_softmax_backward(xp.asarray([[1.0, 1.0]], dtype), ctx)
    np.testing.assert_allclose(xp.to_numpy(dx), [1 - 2 * np.exp(expected)], atol=2e-3)


def test_log_softmax_of_scores_that_are_far_apart(xp):
    y, _ = F.log_softmax_forward(xp.asarray([[1e30, -1e30]], "float32"))
    np.testing.assert_allclose(xp.to_numpy(y), [[0.0, -2e30]], rtol=1e-6)
    if hasattr(xp.xp, "float16"):
        y, _ = F.log_softmax_forward(xp.asarray([[6e4, -6e4]], "float16"))
        assert xp.to_numpy(y).tolist() == [[0.0, -65504.0]]
