"""The rectifier that learns its slope, as a layer."""

import numpy as np
import pytest

from xpnet import functional as F
from xpnet.errors import ArgumentError
from xpnet.layers import Conv2D, Dense, Flatten, PReLU, Sequential
from xpnet.losses import MeanSquaredError
from xpnet.optim import SGD
from xpnet.testing import assert_close
from xpnet.training import train_step


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5)])
def test_forward_and_backward(xp, rng, shape, shared):
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    layer = PReLU(0.3, shared=shared).build(shape[1:])
    assert layer.slope.shape == ((1,) if shared else (3,))
    assert layer.slope.decay is False
    y = layer.forward(xp.asarray(x))
    assert_close(y, np.where(x > 0, x, 0.3 * x))
    dx, dslope = F.prelu_backward(xp.asarray(dy), F.prelu_forward(xp.asarray(x), layer.slope.data)[1])
    assert np.array_equal(xp.to_numpy(layer.backward(xp.asarray(dy))), xp.to_numpy(dx))
    layer.forward(xp.asarray(x))
    assert layer.backward(xp.asarray(dy), need_dx=False) is None
    assert_close(layer.slope.grad, 2 * xp.to_numpy(dslope))
    assert layer.summary().kept_bytes == 4 * np.prod(shape[1:])
    assert layer.summary().parameters == layer.slope.size


def test_channels_last(rng):
    x = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    layer = PReLU(data_format="NHWC").build((4, 5, 3))
    layer.slope.data[...] = [0.0, 0.5, 2.0]
    y = layer.forward(x)
    assert_close(y, np.where(x > 0, x, x * np.float32([0.0, 0.5, 2.0])))
    dx = layer.backward(np.ones_like(x))
    assert_close(dx, np.where(x > 0, 1, np.float32([0.0, 0.5, 2.0]) * np.ones_like(x)))
    assert_close(layer.slope.grad, np.minimum(x, 0).sum(axis=(0, 1, 2)), terms=40)


def test_learns_a_slope(rng):
    """The absolute value is a rectifier of slope -1."""
    x = rng.normal(size=(64, 1)).astype(np.float32)
    model, loss, optimizer = Sequential(PReLU()), MeanSquaredError(), SGD(lr=0.5)
    for _ in range(60):
        train_step(model, loss, optimizer, x, np.abs(x))
    assert_close(model.parameters()[0].data, [-1.0], atol=1e-3)


def test_in_a_model():
    model = Sequential(Conv2D(4, 3), PReLU(), Flatten(), Dense(2), PReLU(shared=True)).build((1, 6, 6))
    assert {p.name: p.shape for p in model.parameters() if "slope" in p.name} == {"1.slope": (4,), "4.slope": (1,)}
    assert model.predict(np.ones((2, 1, 6, 6), np.float32)).shape == (2, 2)


def test_repr_and_refusals():
    assert repr(PReLU()) == "PReLU()"
    assert repr(PReLU(0.1, shared=True)) == "PReLU(slope=0.1, shared=True)"
    with pytest.raises(ArgumentError, match="PReLU: data_format must be one of NCHW, NHWC, got 'CHWN'"):
        PReLU(data_format="CHWN")
