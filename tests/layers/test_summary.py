"""Summaries against hand computation, and kept bytes against the memory that the contexts really hold."""

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ShapeError, StateError
from xpnet.layers import (
    AdaptivePool2D,
    BatchNorm,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPool2D,
    Pool2D,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    Softmax,
)
from xpnet.models import LeNet, SimpleConvNet


def _rows(summary):
    return {r.path: (r.output_shape, r.parameters, r.kept_bytes, r.multiply_adds) for r in summary.rows}


def test_lenet_by_hand():
    summary = LeNet().summary((1, 28, 28))
    f = 4  # bytes of a float32
    assert _rows(summary) == {
        # input and activated output are kept, and each array is counted where it is first kept
        "conv1": ((6, 24, 24), 6 * 25 + 6, f * (784 + 6 * 576), 6 * 576 * 25),
        "pool1": ((6, 12, 12), 0, f * 864, 0),
        "conv2": ((16, 8, 8), 16 * 6 * 25 + 16, f * 1024, 16 * 64 * 6 * 25),
        "pool2": ((16, 4, 4), 0, f * 256, 0),
        "flatten": ((256,), 0, 0, 0),
        "dense1": ((120,), 256 * 120 + 120, f * 120, 256 * 120),
        "dense2": ((84,), 120 * 84 + 84, f * 84, 120 * 84),
        "output": ((10,), 84 * 10 + 10, 0, 840),
    }
    assert summary.parameters == 44426
    assert summary.multiply_adds == 86400 + 153600 + 30720 + 10080 + 840
    assert summary.kept_bytes == f * (784 + 3456 + 864 + 1024 + 256 + 120 + 84)


def _residual():
    body = Sequential(Conv2D(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU(), Conv2D(4, 3, padding=1))
    return Sequential(
        {"block": Residual(body, Conv2D(4, 1, stride=2)), "relu": ReLU(), "flatten": Flatten(), "out": Dense(3)}
    )


def test_residual_by_hand():
    summary = _residual().summary((2, 6, 6))
    f, plane = 4, 9
    assert _rows(summary) == {
        "block.body.0": ((4, 3, 3), 4 * 2 * 9, f * 72, 4 * plane * 2 * 9),
        "block.body.1": ((4, 3, 3), 8, f * 36, 0),
        "block.body.2": ((4, 3, 3), 0, f * 36, 0),
        "block.body.3": ((4, 3, 3), 4 * 4 * 9 + 4, 0, 4 * plane * 4 * 9),
        "block.shortcut": ((4, 3, 3), 4 * 2 + 4, 0, 4 * plane * 2),
        "block.+": ((4, 3, 3), 0, 0, 0),
        "relu": ((4, 3, 3), 0, f * 36, 0),
        "flatten": ((36,), 0, 0, 0),
        "out": ((3,), 111, 0, 108),
    }
    assert summary.parameters == sum(p.size for p in _residual().build((2, 6, 6)).parameters())


def _arrays(value):
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays(item)


def _base(a):
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _kept(model, N, shape, dtype):
    """Bytes of distinct memory in the pending contexts, apart from parameters and numbers per channel."""
    x = np.random.default_rng(0).normal(size=(N, *shape)).astype(dtype)
    model.forward(x)
    own = {id(_base(p.data)) for p in model.parameters()}
    memory = {}
    for _, layer in model.named_layers():
        for a in _arrays(layer._pending):
            if id(_base(a)) not in own and a.shape[:1] == (N,):
                memory[id(_base(a))] = _base(a)
    model.forget()
    return sum(a.nbytes for a in memory.values())


MODELS = {
    "lenet": (LeNet, (1, 28, 28)),
    "lenet 1998": (lambda: LeNet(variant="1998"), (1, 28, 28)),
    "simple": (SimpleConvNet, (1, 20, 20)),
    "residual": (_residual, (2, 6, 6)),
    "identity": (lambda: Sequential(Residual(Conv2D(2, 3, padding=1)), Flatten(), Dense(2)), (2, 6, 6)),
    "dropout": (lambda: Sequential(Flatten(), Dense(7), Dropout(0.3), Dense(5), Dropout(0.0), Softmax()), (2, 3)),
    "average": (lambda: Sequential(Pool2D(2, mode="average"), Pool2D(2), BatchNorm(), ReLU(), Pool2D(1)), (3, 8, 8)),
    "nhwc": (
        lambda: Sequential(
            Conv2D(3, 3, data_format="NHWC", activation="relu"),
            Pool2D(2, data_format="NHWC"),
            BatchNorm(data_format="NHWC"),
        ),
        (8, 6, 2),
    ),
    "grouped": (lambda: Sequential(Conv2D(4, 3, groups=2, stride=2), ReLU(), Conv2D(4, 1, groups=4)), (2, 9, 9)),
    "separable": (
        lambda: Sequential(
            SeparableConv2D(4, 3, padding=1, stride=2, activation="relu"),
            SeparableConv2D(6, 3, multiplier=3, bias=False),
            GlobalPool2D(),
            Dense(3),
        ),
        (2, 9, 9),
    ),
    "transposed": (
        lambda: Sequential(
            ConvTranspose2D(4, 3, stride=2, padding="same", activation="relu"),
            ConvTranspose2D(2, 2, groups=2, data_format="NCHW"),
            Pool2D(2, mode="lp", ceil_mode=True),
            AdaptivePool2D(3, mode="max"),
            AdaptivePool2D((2, 1)),
            GlobalPool2D(mode="max", keepdims=True),
            Flatten(),
            Dense(2),
        ),
        (3, 5, 4),
    ),
    "dense alone": (lambda: Dense(4), (6,)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_kept_bytes_are_what_is_held(name, dtype):
    make, shape = MODELS[name]
    N = 13  # no size or number of channels of any model here
    with backend.using("numpy", dtype=dtype):
        model = make()
        unbuilt = model.summary(shape)
        model.build(shape)
        built = model.summary()
    assert str(unbuilt) == str(built)
    assert unbuilt.rows == built.rows
    held = _kept(model, N, shape, dtype)
    assert held % N == 0
    assert built.kept_bytes == held // N
    assert built.parameters == sum(p.size for p in model.parameters())


def test_multiply_adds_of_groups_and_formats():
    conv = Conv2D(8, (3, 2), groups=4)
    assert conv.summary((4, 5, 5)).multiply_adds == 8 * 3 * 4 * (1 * 6)
    assert Conv2D(8, (3, 2), data_format="NHWC").summary((5, 5, 4)).multiply_adds == 8 * 3 * 4 * (4 * 6)


def test_multiply_adds_of_transposed_and_separable_convolution():
    """Each pixel of the input meets each weight of its channel; a pixel between the parts meets taps and filters."""
    transposed = ConvTranspose2D(8, (3, 2), stride=2, groups=2)
    assert transposed.summary((4, 5, 6)).multiply_adds == 4 * 5 * 6 * (8 // 2) * 6
    separable = SeparableConv2D(8, (3, 2), multiplier=2)
    assert separable.summary((4, 5, 6)).multiply_adds == 3 * 5 * (4 * 2) * (6 + 8)
    assert SeparableConv2D(8, (3, 2), data_format="NHWC").summary((5, 6, 4)).multiply_adds == 3 * 5 * 4 * (6 + 8)


def test_shared_layer_counts_once():
    shared = Dense(4)
    model = Sequential(shared, ReLU(), shared)
    summary = model.summary((4,))
    assert [r.parameters for r in summary.rows] == [20, 0, 0]
    assert [r.multiply_adds for r in summary.rows] == [16, 0, 16]  # but works twice
    assert summary.parameters == 20
    assert summary.kept_bytes * 13 == _kept(model.build((4,)), 13, (4,), np.float32)


def test_other_input_size_than_built_for():
    model = Sequential(Conv2D(2, 3), ReLU()).build((1, 8, 8))
    assert model.summary().rows[1].output_shape == (2, 6, 6)
    assert model.summary((1, 12, 10)).rows[1].output_shape == (2, 10, 8)
    assert model.input_shape == (1, 8, 8)


def test_printed():
    text = str(_residual().summary((2, 6, 6)))
    lines = text.splitlines()
    assert lines[0] == "Sequential on input (2, 6, 6); bytes and multiply-adds are per sample"
    assert lines[2].split() == ["layer", "kind", "output", "shape", "parameters", "kept", "bytes", "multiply-adds"]
    assert lines[4].split() == ["block.body.0", "Conv2D", "(4,", "3,", "3)", "72", "288", "648"]
    assert lines[-1].split() == ["total", "351", "720", "2,124"]
    assert len({len(line) for line in (lines[1], lines[3], lines[2], *lines[4:-2])}) == 1
    assert repr(_residual().summary((2, 6, 6))) == text


def test_errors():
    with pytest.raises(StateError, match=r"Sequential: not built yet: give summary\(input_shape\), without the batch"):
        _residual().summary()
    with pytest.raises(ShapeError, match=r'Conv2D \(layer "conv1"\): .*without the batch'):
        LeNet().summary((8, 1, 28, 28))


def test_half_precision():
    with backend.using("numpy", dtype="float16"):
        model = LeNet().build((1, 28, 28))
    assert 2 * model.summary().kept_bytes == LeNet().summary((1, 28, 28)).kept_bytes
