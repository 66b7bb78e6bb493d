"""Gradients that wait to be added together, as on CuPy: the same sums, and nobody reads one too early."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import config
from xpnet.kernels import table
from xpnet.layers import Dense, Observer, Sequential, observing
from xpnet.losses import MeanSquaredError
from xpnet.training.step import forward_backward

MOST = 500  # bytes: the weights and biases of four of the layers below, 5 x 5 and 5 numbers


@pytest.fixture
def calls(monkeypatch):
    """NumPy's gradients wait, up to so many bytes; the number of arrays in each call."""
    made = []

    def add_all(sums, terms):
        assert len({total.__array_interface__["data"][0] for total in sums}) == len(sums)  # or they would race
        made.append(len(sums))
        for total, term in zip(sums, terms, strict=True):
            total += term

    table.load("numpy")
    own = {("numpy", "bytes_to_wait"): lambda: MOST, ("numpy", "add_all"): add_all}
    monkeypatch.setattr(table, "_TABLE", table._TABLE | own)
    return made


def gradients(model, rng_seed=0, **settings):
    rng = np.random.default_rng(rng_seed)
    x, t = rng.standard_normal((2, 6, 5), dtype=np.float32)
    forward_backward(model, MeanSquaredError(), x, t, **settings)
    return {name: p.grad.copy() for name, p in model.named_parameters()}


def twice():
    shared = Dense(5)
    return Sequential(shared, Dense(5), shared).build((5,), rng=1)


@pytest.fixture
def model():
    return twice()


def test_they_are_added_at_once_without(model):
    assert table.find("bytes_to_wait", np)() == 0
    assert any(g.any() for g in gradients(model).values())


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 4}])
def test_the_sums_are_the_same(model, calls, settings):
    got = gradients(model, **settings)
    assert calls[0] == 4  # the last layer's and the middle one's, until those of the first, which is the last, come
    with config.using(kernels="agnostic"):
        expected = gradients(twice(), **settings)
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_they_wait_for_so_many_bytes_only(calls):
    model = Sequential(*(Dense(5) for _ in range(10))).build((5,), rng=1)
    gradients(model)
    assert calls == [9, 10, 1]  # a layer has 100 bytes and 20, and what comes when 500 are reached ends it


class Looking(Observer):
    def __init__(self):
        self.found = []

    def after_backward(self, layer, dy, dx):
        if isinstance(layer, Dense):
            self.found.append(bool(layer.b.grad.any()))
        return dx


def test_who_looks_finds_them(model, calls):
    looking = Looking()
    with observing(looking):
        gradients(model)
    assert looking.found == [True] * 3
    assert not calls


def test_a_failed_backward_leaves_none_behind(model, calls, monkeypatch):
    def broken(dy, ctx, need_dx):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(model[1], "_backward", broken)
        with pytest.raises(RuntimeError, match="broken"):
            gradients(model)
    expected = gradients(twice())
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-6)
