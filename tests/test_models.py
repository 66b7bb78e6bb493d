"""The models: their sizes, order of layers, options and errors."""

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Activation, Conv2D, Dense, Flatten, Pool2D
from xpnet.models import LeNet, SimpleConvNet
from xpnet.testing import assert_close


def _kinds(model):
    return [(type(layer), getattr(layer, "activation", None)) for layer in model]


@pytest.mark.parametrize(
    "make, parameters",
    [(LeNet, 44426), (lambda: LeNet(variant="1998"), 61706), (SimpleConvNet, 433890)],
    ids=["modern", "1998", "simple"],
)
def test_number_of_parameters(xp, rng, make, parameters):
    model = make().build((1, 28, 28), rng=1)
    assert sum(p.size for p in model.parameters()) == parameters
    assert model.store.segments[0].data.shape == (parameters,)
    assert model.output_shape((1, 28, 28)) == (10,)
    assert model(xp.asarray(rng.normal(size=(2, 1, 28, 28)), "float32")).shape == (2, 10)


@pytest.mark.parametrize("make", [LeNet, lambda **k: LeNet(variant="1998", **k), SimpleConvNet])
def test_classes_channels_and_sizes(make, rng):
    model = make(classes=3)
    assert model(rng.normal(size=(2, 3, 20, 24))).shape == (2, 3)
    assert model.parameters()[0].shape[1] == 3


def test_modern_lenet():
    model = LeNet(activation="tanh").build((1, 28, 28))
    assert _kinds(model) == [(Conv2D, "tanh"), (Pool2D, None), (Conv2D, "tanh"), (Pool2D, None), (Flatten, None),
                             (Dense, "tanh"), (Dense, "tanh"), (Dense, None)]  # fmt: skip
    assert [p.name for p in model.parameters()][::2] == ["conv1.W", "conv2.W", "dense1.W", "dense2.W", "output.W"]
    assert {layer.mode for layer in model if isinstance(layer, Pool2D)} == {"max"}
    shapes = [r.output_shape for r in model.summary().rows]
    assert shapes == [(6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (256,), (120,), (84,), (10,)]
    assert _kinds(LeNet())[0] == (Conv2D, "sigmoid")


def test_lenet_of_1998(rng):
    """The activation comes after sub-sampling, and 28x28 images count as 32x32."""
    model = LeNet(variant="1998").build((1, 28, 28), rng=1)
    assert list(model.children()) == ["conv1", "pool1", "activation1", "conv2", "pool2", "activation2", "flatten",
                                      "dense1", "dense2", "output"]  # fmt: skip
    assert _kinds(model)[:6] == [(Conv2D, None), (Pool2D, None), (Activation, None)] * 2
    assert {layer.mode for layer in model if isinstance(layer, Pool2D)} == {"average"}
    assert [r.output_shape for r in model.summary().rows][:5] == [
        (6, 28, 28), (6, 14, 14), (6, 14, 14), (16, 10, 10), (16, 5, 5)]  # fmt: skip
    x = rng.normal(size=(2, 1, 28, 28)).astype(np.float32)
    h = model["conv1"](backend.asarray(x))
    h = np.array(backend.to_numpy(h), np.float64).reshape(2, 6, 14, 2, 14, 2).mean((3, 5))
    got = model["activation1"](model["pool1"](model["conv1"](backend.asarray(x))))
    assert_close(got, 1 / (1 + np.exp(-h)), terms=4)


def test_simple_convnet():
    model = SimpleConvNet().build((1, 28, 28))
    assert _kinds(model) == [(Conv2D, "relu"), (Pool2D, None), (Flatten, None), (Dense, "relu"), (Dense, None)]
    assert [p.shape for p in model.parameters()] == [(30, 1, 5, 5), (30,), (4320, 100), (100,), (100, 10), (10,)]
    assert _kinds(SimpleConvNet(conv_activation=None))[0] == (Conv2D, None)
    small = SimpleConvNet(filters=4, kernel_size=3, hidden=7, classes=2).build((1, 8, 8))
    assert [p.shape for p in small.parameters()] == [(4, 1, 3, 3), (4,), (36, 7), (7,), (7, 2), (2,)]


@pytest.mark.parametrize("std", [0.01, 0.3])
def test_simple_convnet_initial_values(std):
    model = SimpleConvNet(weight_std=std).build((1, 28, 28), rng=3)
    for p in model.parameters():
        w = backend.to_numpy(p.data)
        if p.name.endswith("b"):
            assert not w.any()
        else:
            assert abs(w.std() - std) < 5 * std / np.sqrt(2 * w.size), p.name
            assert abs(w.mean()) < 5 * std / np.sqrt(w.size)


def test_lenet_initial_values():
    model = LeNet().build((1, 28, 28), rng=3)
    w = backend.to_numpy(model["dense1"].W.data)
    std = np.sqrt(2 / (256 + 120))
    assert abs(w.std() - std) < 5 * std / np.sqrt(2 * w.size)
    he = backend.to_numpy(LeNet(init="he_normal").build((1, 28, 28), rng=3)["dense1"].W.data)
    assert_close(he / np.float32(np.sqrt(2 / 256)), w / np.float32(std))  # the same numbers, scaled


def test_errors():
    with pytest.raises(ValueError, match="LeNet: variant must be one of modern, 1998, got '2012'"):
        LeNet(variant="2012")
    for make in (lambda: LeNet(activation="swash"), lambda: LeNet(variant="1998", activation="swash")):
        with pytest.raises(ArgumentError, match="no activation 'swash'"):
            make()


@pytest.mark.parametrize(
    "model, size, text",
    [
        (
            LeNet(),
            (1, 4, 28),
            r'Conv2D \(layer "conv1"\): the output would have 0 rows: floor\(\(4 \+ 0 \+ 0 - 1\*\(5-1\) - 1',
        ),
        (LeNet(), (1, 28, 12), r'Conv2D \(layer "conv2"\): the output would have 0 columns: floor\(\(4 \+ 0 \+ 0 - '),
        (
            LeNet(),
            (1, 14, 14),
            r'Pool2D \(layer "pool2"\): the output would have 0 rows: floor\(\(1 \+ 0 \+ 0 - 1\*\(2-1\)',
        ),
        (SimpleConvNet(), (1, 5, 5), r'Pool2D \(layer "pool"\): the output would have 0 rows: floor\(\(1 \+ 0 \+ 0 -'),
    ],
)
def test_too_small_an_input(model, size, text):
    with pytest.raises(ShapeError, match=text):
        model.build(size)
    assert not model.built
    with pytest.raises(ShapeError, match=text):
        model(np.ones((2, *size), np.float32))
    assert not any(layer.built for layer in model)
