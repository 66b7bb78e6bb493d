"""Dropout: which elements, how scaled, the same mask forward, backward and on every backend."""

from __future__ import annotations

import re

import numpy as np
import pytest

from xpnet.errors import ArgumentError
from xpnet.functional import dropout_backward, dropout_forward
from xpnet.random import keep_mask
from xpnet.testing import assert_close


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 4, 5), (7,)])
def test_kept_elements_are_scaled_and_the_others_zero(xp, shape, rate, rng):
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    mask = keep_mask(shape, rate, 3, 2, 1)
    for dtype in ("float64", "float32"):
        y, ctx = dropout_forward(xp.asarray(x, dtype), rate=rate, seed=3, stream=2, step=1)
        assert_close(y, np.where(mask, x / (1 - rate), 0.0))
        assert_close(dropout_backward(xp.asarray(dy, dtype), ctx), np.where(mask, dy / (1 - rate), 0.0))


def test_the_mean_is_kept():
    y, _ = dropout_forward(np.ones((400, 500)), rate=0.3, seed=7)
    assert np.mean(y == 0.0) == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 200_000))
    assert np.mean(y) == pytest.approx(1.0, abs=0.01)


def test_seed_stream_and_step_each_give_another_mask():
    arguments = [{}, {"seed": 1}, {"stream": 1}, {"step": 1}, {"seed": 1, "step": 1}]
    masks = {dropout_forward(np.ones(64), **a)[0].tobytes() for a in arguments}
    assert len(masks) == len(arguments)
    assert dropout_forward(np.ones(64), step=1)[0].tobytes() in masks


@pytest.mark.parametrize("arguments", [{"train": False}, {"rate": 0.0}, {"rate": 0.9, "train": False}])
def test_nothing_to_do(xp, arguments, rng):
    x, dy = xp.asarray(rng.standard_normal((3, 4))), xp.asarray(rng.standard_normal((3, 4)))
    y, ctx = dropout_forward(x, **arguments)
    np.testing.assert_array_equal(xp.to_numpy(y), xp.to_numpy(x), strict=True)
    np.testing.assert_array_equal(xp.to_numpy(dropout_backward(dy, ctx)), xp.to_numpy(dy), strict=True)
    assert ctx.mask is None


def test_a_rate_next_to_one_drops_all(xp):
    y, _ = dropout_forward(xp.asarray(np.ones(100)), rate=1 - 1e-15)
    assert not xp.to_numpy(y).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rate": 1.0}, "rate must be at least 0 and below 1, got 1.0"),
        ({"rate": -0.1}, "rate must be at least 0 and below 1, got -0.1"),
        ({"rate": float("nan")}, "rate must be at least 0 and below 1, got nan"),
        ({"rate": 2, "train": False}, "rate must be at least 0 and below 1, got 2"),
        ({"seed": -1}, "seed, stream and step must be integers from 0 to 2**64 - 1, got (-1, 0, 0)"),
        ({"stream": 0.5}, "seed, stream and step must be integers from 0 to 2**64 - 1, got (0, 0.5, 0)"),
        (
            {"step": 2**64},
            "seed, stream and step must be integers from 0 to 2**64 - 1, got (0, 0, 18446744073709551616)",
        ),
    ],
)
def test_refusals(xp, arguments, message):
    with pytest.raises(ArgumentError, match="^dropout: " + re.escape(message)):
        dropout_forward(xp.asarray(np.ones((2, 3))), **arguments)


def test_the_largest_seed():
    assert dropout_forward(np.ones(64), seed=2**64 - 1, stream=2**64 - 1, step=2**64 - 1)[0].any()
