"""The dense product and flattening."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference import naive_linear, torch_gradients
from xpnet.errors import ShapeError
from xpnet.functional import flatten_backward, flatten_forward, linear_backward, linear_forward
from xpnet.testing import assert_close

SIZES = [(1, 1, 1), (3, 5, 2), (4, 1, 7), (2, 33, 3)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("N, I, O", SIZES)
def test_linear_against_loops_and_torch(xp, N, I, O, bias, rng):  # noqa: E741
    x, W, dy = rng.standard_normal((N, I)), rng.standard_normal((I, O)), rng.standard_normal((N, O))
    b = rng.standard_normal(O) if bias else None
    for dtype in ("float64", "float32"):
        y, ctx = linear_forward(*(None if a is None else xp.asarray(a, dtype) for a in (x, W, b)))
        assert_close(y, naive_linear(x, W, b), terms=I)
        gradients = linear_backward(xp.asarray(dy, dtype), ctx)
        expected = naive_linear(dy, W.T), naive_linear(x.T, dy), naive_linear(np.ones((1, N)), dy)[0] if bias else None
        for gradient, wanted in zip(gradients, expected, strict=True):
            assert (gradient is None) == (wanted is None)
            if wanted is not None:
                assert_close(gradient, wanted, terms=max(N, O))
    f = lambda x, W, b=None: x @ W if b is None else x @ W + b
    for gradient, wanted in zip(expected, torch_gradients(f, (x, W, b), dy)[1], strict=True):
        assert gradient is None or np.allclose(gradient, wanted, atol=1e-12)


def test_no_dx(xp, rng):
    x, W, b = (xp.asarray(rng.standard_normal(s)) for s in ((3, 5), (5, 2), (2,)))
    _, ctx = linear_forward(x, W, b)
    dy = xp.asarray(rng.standard_normal((3, 2)))
    none, dW, db = linear_backward(dy, ctx, need_dx=False)
    assert none is None
    _, same_dW, same_db = linear_backward(dy, ctx)
    np.testing.assert_array_equal(xp.to_numpy(dW), xp.to_numpy(same_dW), strict=True)
    np.testing.assert_array_equal(xp.to_numpy(db), xp.to_numpy(same_db), strict=True)


def test_the_bias_gradient_of_half_floats_is_summed_in_float32():
    """4096 ones and more: float16 would stop counting at 2048."""
    x, W, b = np.ones((4099, 1), np.float16), np.ones((1, 1), np.float16), np.zeros(1, np.float16)
    _, ctx = linear_forward(x, W, b)
    _, _, db = linear_backward(np.ones((4099, 1), np.float16), ctx, need_dx=False)
    assert db.tolist() == [4100.0]  # 4099, rounded to the next float16


@pytest.mark.parametrize("gate, W, b", [("AND", 0.5, -0.7), ("NAND", -0.5, 0.7), ("OR", 0.5, -0.2)])
def test_gates_of_one_perceptron(xp, gate, W, b):
    x = xp.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y, _ = linear_forward(x, xp.asarray([[W], [W]]), xp.asarray([b]))
    expected = {"AND": [0, 0, 0, 1], "NAND": [1, 1, 1, 0], "OR": [0, 1, 1, 1]}[gate]
    assert (xp.to_numpy(y)[:, 0] > 0).astype(int).tolist() == expected


X, W_OK = np.ones((3, 5)), np.ones((5, 2))


@pytest.mark.parametrize(
    "x, W, b, message",
    [
        (np.ones((3, 5, 1)), W_OK, None, "x must have 2 axes (N, I), got shape (3, 5, 1)"),
        (np.ones(5), W_OK, None, "x must have 2 axes (N, I), got shape (5,)"),
        (np.ones((0, 5)), W_OK, None, "the batch is empty: x has shape (0, 5); (N, I) must all be at least 1"),
        (np.ones((3, 0)), W_OK, None, "an axis is empty: x has shape (3, 0)"),
        (X, np.ones(5), None, "W must have 2 axes (I, O), got shape (5,)"),
        (X, np.ones((5, 0)), None, "an axis is empty: W has shape (5, 0)"),
        (X, np.ones((4, 2)), None, "x has 5 features but W expects 4 (x.shape=(3, 5), W.shape=(4, 2))"),
        (X, W_OK, np.ones(5), "b must have shape (O,) = (2,), got (5,)"),
        (X, W_OK, np.ones((1, 2)), "b must have shape (O,) = (2,), got (1, 2)"),
    ],
)
def test_linear_refusals(xp, x, W, b, message):
    with pytest.raises(ShapeError, match="^linear: " + re.escape(message)):
        linear_forward(*(None if a is None else xp.asarray(a) for a in (x, W, b)))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1), (4, 3), (2, 3, 4)])
def test_flatten_keeps_the_order_of_the_indices(xp, shape, rng):
    x, dy = rng.standard_normal(shape), rng.standard_normal((shape[0], int(np.prod(shape[1:]))))
    y, ctx = flatten_forward(xp.asarray(x))
    np.testing.assert_array_equal(xp.to_numpy(y), [[v for v in row.ravel()] for row in x], strict=True)
    np.testing.assert_array_equal(xp.to_numpy(flatten_backward(xp.asarray(dy), ctx)), dy.reshape(shape), strict=True)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 0, 3)])
def test_flatten_refusals(xp, shape):
    message = f"flatten: x must have at least 2 axes (N, ...), none empty, got shape {shape}"
    with pytest.raises(ShapeError, match="^" + re.escape(message)):
        flatten_forward(xp.asarray(np.ones(shape)))
