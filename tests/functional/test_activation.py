"""Activations and softmax: against formulas worked element by element and torch, and at the ends of the range."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import xpnet.functional as F
from tests.reference import naive_elementwise, naive_sigmoid, naive_softmax, torch_gradients
from xpnet.errors import ArgumentError
from xpnet.functional import softmax_backward, softmax_forward
from xpnet.testing import assert_close

# name -> y of x, and dy/dx
FORMULAS = {
    "relu": (lambda v: v if v > 0 else 0.0, lambda v: 1.0 if v > 0 else 0.0),
    "sigmoid": (lambda v: 1 / (1 + math.exp(-v)), lambda v: math.exp(-v) / (1 + math.exp(-v)) ** 2),
    "tanh": (math.tanh, lambda v: 1 / math.cosh(v) ** 2),
}
every_activation = pytest.mark.parametrize("name", FORMULAS)


def pair(name):
    return getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")


@every_activation
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4, 5), (2, 1, 3, 2, 2)])
def test_against_formulas(xp, name, shape, rng):
    forward, backward = pair(name)
    formula, derivative = FORMULAS[name]
    x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    for dtype in ("float64", "float32"):
        y, ctx = forward(xp.asarray(x, dtype))
        assert_close(y, naive_elementwise(formula, x))
        assert_close(backward(xp.asarray(dy, dtype), ctx), dy * naive_elementwise(derivative, x))


@every_activation
def test_against_torch(xp, name, rng):
    x, dy = rng.standard_normal((3, 4, 2, 2)) * 2, rng.standard_normal((3, 4, 2, 2))
    forward, backward = pair(name)
    expected, (dx,) = torch_gradients(lambda t: getattr(t, name)(), (x,), dy)
    y, ctx = forward(xp.asarray(x))
    assert_close(y, expected)
    assert_close(backward(xp.asarray(dy), ctx), dx)


def test_relu_at_zero_and_beyond(xp):
    x = [-math.inf, -1.0, -0.0, 0.0, 1e-300, 1.0, math.inf, math.nan]
    y, ctx = F.relu_forward(xp.asarray(x))
    np.testing.assert_array_equal(xp.to_numpy(y), [0, 0, 0, 0, 1e-300, 1, math.inf, math.nan])
    dx = F.relu_backward(xp.asarray(np.full(8, 5.0)), ctx)
    assert xp.to_numpy(dx).tolist() == [0, 0, 0, 0, 5, 5, 5, 0]


ENDS = np.array([-math.inf, -1e30, -1e3, -104.0, -88.0, -20.0, 0.0, 20.0, 88.0, 1e3, 1e30, math.inf])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_ends_of_the_range(xp, name, dtype):
    """Neither overflow nor a warning (which is an error here), and gradients that are zero where y is flat."""
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.backend_name} has no {dtype}")
    x = ENDS if dtype != "float16" else np.where(np.abs(ENDS) == 1e30, np.sign(ENDS) * 6e4, ENDS)
    forward, backward = pair(name)
    y, ctx = forward(xp.asarray(x, dtype))
    assert_close(y, naive_sigmoid(np.clip(x, -300, 300)) if name == "sigmoid" else np.tanh(x))
    dx = backward(xp.asarray(np.ones(x.shape), dtype), ctx)
    slope = (
        1 / (2 + 2 * np.cosh(np.clip(x, -300, 300))) if name == "sigmoid" else 1 / np.cosh(np.clip(x, -300, 300)) ** 2
    )
    assert_close(dx, slope)


def test_sigmoid_is_precise_where_it_is_small(xp):
    """exp(-x) must not be computed as 1 - y: the relative error counts."""
    x = np.array([-80.0, -50.0, -30.0, -10.0])
    y, _ = F.sigmoid_forward(xp.asarray(x))
    np.testing.assert_allclose(xp.to_numpy(y), [math.exp(v) / (1 + math.exp(v)) for v in x], rtol=1e-13)


# --- softmax -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, axis", [((5,), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 2, 4), 1), ((2, 3, 2, 4), -2), ((2, 1), 1)]
)
def test_softmax_against_loops_and_torch(xp, shape, axis, rng):
    x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    expected = naive_softmax(x, axis)
    for dtype in ("float64", "float32"):
        y, ctx = softmax_forward(xp.asarray(x, dtype), axis=axis)
        assert_close(y, expected, terms=shape[axis])
        dx = softmax_backward(xp.asarray(dy, dtype), ctx)
        assert_close(dx, expected * (dy - (dy * expected).sum(axis=axis, keepdims=True)), terms=shape[axis])
    y, (dx,) = torch_gradients(lambda t: t.softmax(dim=axis), (x,), dy)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert_close(softmax_backward(xp.asarray(dy), softmax_forward(xp.asarray(x), axis=axis)[1]), dx, terms=shape[axis])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "row, expected",
    [
        ([1e3, 1e3], [0.5, 0.5]),
        ([-1e3, -1e3, -1e3, -1e3], [0.25] * 4),
        ([1e30, 0.0, -1e30], [1, 0, 0]),
        ([-1e30, -1e30 * 1.01], [1, 0]),
        ([0.0, -math.inf, 0.0], [0.5, 0, 0.5]),
        ([1000.0, 1001.0], [1 / (1 + math.e), math.e / (1 + math.e)]),
        ([0.3, 2.9, 4.0], [0.01821127, 0.24519181, 0.73659691]),  # the book, section 3.5
    ],
)
def test_softmax_at_the_ends_of_the_range(xp, row, expected, dtype):
    y, ctx = softmax_forward(xp.asarray([row], dtype))
    assert_close(y, [expected], rtol=1e-5)
    dx = softmax_backward(xp.asarray(np.ones((1, len(row))), dtype), ctx)
    assert_close(dx, np.zeros((1, len(row))), terms=len(row))


@pytest.mark.parametrize(
    "shape, axis, message",
    [
        ((2, 3), 2, "axis 2 of x is missing or empty (x.shape=(2, 3))"),
        ((2, 3), -3, "axis -3 of x is missing or empty (x.shape=(2, 3))"),
        ((), -1, "axis -1 of x is missing or empty (x.shape=())"),
        ((2, 0), 1, "axis 1 of x is missing or empty (x.shape=(2, 0))"),
    ],
)
def test_softmax_refusals(xp, shape, axis, message):
    with pytest.raises(ArgumentError, match="^softmax: " + re.escape(message)):
        softmax_forward(xp.asarray(np.ones(shape)), axis=axis)
