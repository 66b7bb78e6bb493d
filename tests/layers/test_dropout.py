"""Dropout: masks by seed and step, the same on every backend."""

import math

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError
from xpnet.layers import Dropout, Sequential
from xpnet.testing import assert_close


def _run(layer, shape, steps):
    x = backend.asarray(np.ones((5, *shape), np.float32))
    return [np.array(backend.to_numpy(layer.forward(x))) for _ in range(steps)]


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5)])
def test_masks_are_the_same_on_every_backend(xp, shape):
    mine = _run(Sequential(Dropout(0.4), Dropout(0.2)).build(shape, rng=5), shape, 4)
    with backend.using("numpy"):
        expected = _run(Sequential(Dropout(0.4), Dropout(0.2)).build(shape, rng=5), shape, 4)
    for a, b in zip(mine, expected, strict=True):
        assert np.array_equal(a == 0, b == 0)
        assert_close(a, b)
    for i in range(4):
        assert not any(np.array_equal(mine[i] == 0, mine[j] == 0) for j in range(i))


def test_layers_and_seeds_differ():
    model = Sequential(Dropout(0.5), Dropout(0.5)).build((200,), rng=0)
    other = Dropout(0.5).build((200,), rng=1)
    masks = [_run(layer, (200,), 1)[0] for layer in (model[0], model[1], other)]
    for i in range(3):
        assert not any(np.array_equal(masks[i], masks[j]) for j in range(i))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(rate):
    (y,) = _run(Dropout(rate).build((20000,), rng=3), (20000,), 1)
    assert_close(y[y != 0], np.full(int((y != 0).sum()), 1 / (1 - rate)))
    assert abs((y == 0).mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / y.size)


def test_equals_the_functional_pair_and_counts_steps(xp, rng):
    layer = Dropout(0.3).build((4, 5), rng=9)
    x, dy = xp.asarray(rng.normal(size=(6, 4, 5)), "float32"), xp.asarray(rng.normal(size=(6, 4, 5)), "float32")
    for step in range(3):
        assert layer.step == step
        y, ctx = F.dropout_forward(x, rate=0.3, seed=layer.seed, step=step)
        assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
        assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(F.dropout_backward(dy, ctx)))
        layer.predict(x)  # inference takes no step


def test_each_backward_uses_the_mask_of_its_forward(rng):
    layer = Dropout(0.5).build((30,), rng=2)
    x = np.ones((2, 30), np.float32)
    first, second = layer.forward(x), layer.forward(x)
    assert not np.array_equal(first, second)
    assert np.array_equal(layer.backward(x), second)
    assert np.array_equal(layer.backward(x), first)


def test_setting_seed_and_step_repeats():
    layer = Dropout(0.5).build((50,), rng=2)
    first, second = _run(layer, (50,), 2)
    layer.step = 0
    again = _run(layer, (50,), 2)
    assert np.array_equal(again[0], first)
    assert np.array_equal(again[1], second)
    other = Dropout(0.5).build((50,), rng=77)
    other.seed, other.step = layer.seed, 1
    assert np.array_equal(_run(other, (50,), 1)[0], second)


def test_inference_and_rate_zero_are_the_identity(xp, rng):
    x = xp.asarray(rng.normal(size=(3, 8)), "float32")
    assert np.array_equal(xp.to_numpy(Dropout(0.7)(x)), xp.to_numpy(x))
    layer = Dropout(0.0)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(x))
    assert np.array_equal(xp.to_numpy(layer.backward(x)), xp.to_numpy(x))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "a", None])
def test_bad_rate(rate):
    with pytest.raises(ArgumentError, match="Dropout: rate must be at least 0 and below 1, got"):
        Dropout(rate)


def test_repr():
    assert repr(Dropout(0.25)) == "Dropout(rate=0.25)"
