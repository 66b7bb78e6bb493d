"""The convolution layer against the functional pair, torch, and its own settings."""

import math

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, ShapeError
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    ConvTranspose2D,
    GlobalPool2D,
    LocalResponseNorm,
    Pool2D,
    SeparableConv2D,
    Upsample2D,
)
from xpnet.testing import assert_close

PAIRS = {"relu": (F.relu_forward, F.relu_backward), "sigmoid": (F.sigmoid_forward, F.sigmoid_backward),
         "tanh": (F.tanh_forward, F.tanh_backward)}  # fmt: skip

SETTINGS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
    {"padding": "same", "groups": 2},
    {"padding": ((1, 0), (2, 1)), "bias": False},
]


TORCH = {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1), "groups": 2}


@pytest.mark.parametrize("activation", [None, "identity", *PAIRS])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_functional_pair(xp, rng, settings, activation):
    layer = Conv2D(4, (3, 2), activation=activation, bias_init="normal", **settings).build((2, 7, 6), rng=1)
    x = xp.asarray(rng.normal(size=(3, 2, 7, 6)), "float32")
    options = {k: v for k, v in settings.items() if k != "bias"}
    y, ctx = F.conv2d_forward(x, layer.W.data, layer.b.data if layer.bias else None, **options)
    if activation in PAIRS:
        y, activation_ctx = PAIRS[activation][0](y)
    got = layer.forward(x)
    assert np.array_equal(xp.to_numpy(got), xp.to_numpy(y))
    assert layer.output_shape((2, 7, 6)) == tuple(y.shape[1:])

    dy = xp.asarray(rng.normal(size=tuple(y.shape)), "float32")
    through = PAIRS[activation][1](dy, activation_ctx) if activation in PAIRS else dy
    dx, dW, db = F.conv2d_backward(through, ctx)
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(dx))
    assert np.array_equal(xp.to_numpy(layer.W.grad), xp.to_numpy(dW))
    if layer.bias:
        assert_close(layer.b.grad, xp.to_numpy(db), terms=math.prod(dy.shape))  # summed in another order, with relu
    else:
        assert [p.name for p in layer.parameters()] == ["W"]


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[1], TORCH], ids=str)
def test_equals_torch(rng, settings):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Conv2d(2, 4, (3, 2), dtype=torch.float64, **settings)
    with backend.using("numpy", dtype="float64"):
        layer = Conv2D(4, (3, 2), **settings).build((2, 7, 6))
    layer.load_state_dict({"W": theirs.weight, "b": theirs.bias})
    x = torch.tensor(rng.normal(size=(3, 2, 7, 6)), requires_grad=True)
    y = theirs(x)
    dy = rng.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    assert_close(layer.forward(x.detach().numpy()), y.detach().numpy(), terms=12)
    assert_close(layer.backward(dy), x.grad.numpy(), terms=24)
    assert_close(layer.W.grad, theirs.weight.grad.numpy(), terms=126)
    assert_close(layer.b.grad, theirs.bias.grad.numpy(), terms=126)


def test_nhwc_equals_nchw(xp, rng):
    options = {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "activation": "tanh", "bias_init": "normal"}
    first = Conv2D(4, (3, 2), **options).build((2, 7, 6), rng=2)
    last = Conv2D(4, (3, 2), data_format="NHWC", **options).build((7, 6, 2), rng=2)
    assert last.W.shape == first.W.shape == (4, 2, 3, 2)
    C, OH, OW = first.output_shape((2, 7, 6))
    assert last.output_shape((7, 6, 2)) == (OH, OW, C)
    x, dy = rng.normal(size=(3, 2, 7, 6)), rng.normal(size=(3, C, OH, OW))
    y = first.forward(xp.asarray(x, "float32"))
    dx = first.backward(xp.asarray(dy, "float32"))
    y_last = last.forward(xp.asarray(x.transpose(0, 2, 3, 1), "float32"))
    dx_last = last.backward(xp.asarray(dy.transpose(0, 2, 3, 1), "float32"))
    assert_close(y_last, xp.to_numpy(y).transpose(0, 2, 3, 1))
    assert_close(dx_last, xp.to_numpy(dx).transpose(0, 2, 3, 1), terms=24)
    for mine, other in zip(last.parameters(), first.parameters(), strict=True):
        assert_close(mine.grad, xp.to_numpy(other.grad), terms=90)


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: Conv2D(2, 3, **options),
        lambda **options: ConvTranspose2D(2, 3, **options),
        lambda **options: SeparableConv2D(2, 3, **options),
        BatchNorm,
        LocalResponseNorm,
        lambda **options: Pool2D(2, **options),
        GlobalPool2D,
        lambda **options: Upsample2D(2, **options),
    ],
)
def test_lists_are_refused_alike_in_both_formats(make):
    first, last = make().build((4, 4, 4)), make(data_format="NHWC").build((4, 4, 4))
    images = np.ones((1, 4, 4, 4), np.float32)
    for images_and_back in (lambda layer: layer(images.tolist()), lambda layer: layer.backward(images.tolist())):
        said = []
        for layer in (first, last):
            layer.forward(images)
            with pytest.raises(DTypeError, match="expected an array, got list") as caught:
                images_and_back(layer)
            said.append(str(caught.value))
        assert said[0] == said[1]


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Conv2D(0, 3), "filters must be a positive int, got 0"),
        (lambda: Conv2D(2.5, 3), r"filters must be a positive int, got 2\.5"),
        (lambda: Conv2D("8", 3), "filters must be a positive int, got '8'"),
        (lambda: Conv2D(8, 0), "kernel_size must be at least 1, got 0"),
        (lambda: Conv2D(8, (3, 3, 3)), r"kernel_size must be an int or a pair of ints, got \(3, 3, 3\)"),
        (lambda: Conv2D(8, 3, stride=0), "stride must be at least 1"),
        (lambda: Conv2D(8, 3, dilation=(1, 0)), "dilation must be at least 1"),
        (lambda: Conv2D(8, 3, groups=0), "groups must be a positive int, got 0"),
        (lambda: Conv2D(8, 3, groups="2"), "groups must be a positive int, got '2'"),
        (lambda: Conv2D(8, 3, activation="swash"), "no activation 'swash'; there are identity, relu, sigmoid"),
        (lambda: Conv2D(8, 3, data_format="CHW"), "data_format must be one of NCHW, NHWC, got 'CHW'"),
        (lambda: Conv2D(8, 3, padding="some").build((1, 5, 5)), "padding must be .*'same' or 'full', got 'some'"),
        (lambda: Conv2D(8, 3, padding=-1).build((1, 5, 5)), "padding must be at least 0, got -1"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=f"^Conv2D: {text}"):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match="Conv2D: groups=3 must divide the 4 channels of the input and the 6 filters"):
        Conv2D(6, 3, groups=3).build((4, 8, 8))
    with pytest.raises(
        ShapeError, match=r"Conv2D: the output would have 0 columns: floor\(\(2 \+ 0 \+ 0 - 1\*\(3-1\) - 1"
    ):
        Conv2D(6, 3).build((4, 8, 2))
    layer = Conv2D(6, 3).build((3, 8, 8))
    with pytest.raises(ShapeError, match=r"x has 1 channels but W expects 3 \(x\.shape=\(2, 1, 8, 8\), W\.shape="):
        layer(np.ones((2, 1, 8, 8), np.float32))
    with pytest.raises(ArrayMismatchError, match="x is numpy float64 on cpu but W is numpy float32 on cpu; convert"):
        layer(np.ones((2, 3, 8, 8)))
    assert layer(np.ones((2, 3, 11, 9), np.float32)).shape == (2, 6, 9, 7)  # other sizes than built for are fine


def test_repr():
    assert repr(Conv2D(6, 5)) == "Conv2D(filters=6, kernel_size=(5, 5))"
    layer = Conv2D(6, (5, 3), stride=2, padding="same", groups=2, activation="relu", bias=False, data_format="NHWC")
    assert repr(layer) == (
        "Conv2D(filters=6, kernel_size=(5, 3), stride=(2, 2), padding='same', groups=2, activation='relu', "
        "bias=False, data_format='NHWC')"
    )
