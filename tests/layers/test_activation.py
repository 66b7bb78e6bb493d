"""Activations as layers: the functional pairs, by class and by name."""

import numpy as np
import pytest

from xpnet import functional as F
from xpnet.errors import ArgumentError
from xpnet.layers import Activation, ReLU, Sequential, Sigmoid, Softmax, Tanh
from xpnet.testing import assert_close

KINDS = {
    "relu": (ReLU, F.relu_forward, F.relu_backward, lambda x: np.maximum(x, 0)),
    "sigmoid": (Sigmoid, F.sigmoid_forward, F.sigmoid_backward, lambda x: 1 / (1 + np.exp(-x))),
    "softmax": (Softmax, F.softmax_forward, F.softmax_backward, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "tanh": (Tanh, F.tanh_forward, F.tanh_backward, np.tanh),
}


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4, 5)])
@pytest.mark.parametrize("name", KINDS)
def test_layers(xp, rng, name, shape):
    cls, forward, backward, formula = KINDS[name]
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    y, ctx = forward(xp.asarray(x))
    assert_close(y, formula(x.astype(np.float64)), terms=5)
    dx = xp.to_numpy(backward(xp.asarray(dy), ctx))
    for layer in (cls(), Activation(name)):
        assert np.array_equal(xp.to_numpy(layer.forward(xp.asarray(x))), xp.to_numpy(y))
        assert np.array_equal(xp.to_numpy(layer.backward(xp.asarray(dy))), dx)
        assert layer.parameters() == []
        assert layer.output_shape(shape[1:]) == shape[1:]


def test_identity(xp, rng):
    x = xp.asarray(rng.normal(size=(3, 5)), "float32")
    layer = Activation("identity")
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(x))
    assert np.array_equal(xp.to_numpy(layer.backward(x)), xp.to_numpy(x))


def test_unknown():
    with pytest.raises(ArgumentError, match="Activation: no activation 'swash'; there are identity, relu, sigmoid"):
        Activation("swash")


def test_repr():
    assert repr(Activation("relu")) == "Activation(name='relu')"
    assert repr(Sequential(ReLU(), Sigmoid())) == "Sequential(\n  0: ReLU()\n  1: Sigmoid()\n)"
