"""Sequential and Residual: gradients of whole models, errors with their path, nothing left behind by a failure."""

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, OperationError, ShapeError
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from xpnet.testing import assert_close

H = 6e-6  # cube root of the float64 epsilon: best for central differences
# Truncation (h^2) and cancellation (eps / h) are both about 4e-11 here; the rest is room for steep third derivatives.
DIFFERENCES = 1e-7


def _shared():
    dense = Dense(4, activation="tanh", bias_init="normal")
    return Sequential(dense, Residual(dense), dense)


def _shared_conv():
    conv = Conv2D(2, 3, padding=1, activation="tanh", bias_init="normal")
    return Sequential(conv, Residual(Sequential(conv, BatchNorm())), Residual(ReLU(), conv), Flatten(), Dense(2))


MODELS = {
    "plain": (
        lambda: Sequential(
            Conv2D(3, 3, padding=1), BatchNorm(), ReLU(), Pool2D(2), Flatten(), Dense(4, activation="sigmoid"), Dense(2)
        ),
        (2, 4, 4),
    ),
    "strided": (
        lambda: Sequential(
            Conv2D(2, 2, stride=2, padding=1, bias_init="normal"),
            Conv2D(4, (2, 1), groups=2, dilation=(2, 1), activation="relu", bias_init="normal"),
            Pool2D(2, stride=1, mode="average"),
            Flatten(),
            Softmax(),
        ),
        (3, 7, 5),
    ),
    "residual": (lambda: Sequential(Dense(4), Residual(Sequential(Dense(4), Tanh())), Dense(2)), (3,)),
    "shortcut": (
        lambda: Sequential(
            Residual(
                Sequential(Conv2D(2, 3, stride=2, padding=1), BatchNorm(), ReLU(), Conv2D(2, 3, padding=1)),
                Sequential(Conv2D(2, 1, stride=2, bias=False), BatchNorm(affine=False)),
            ),
            ReLU(),
            Flatten(),
        ),
        (2, 5, 4),
    ),
    "shared": (_shared, (4,)),
    "shared conv": (_shared_conv, (2, 3, 4)),
    "nhwc": (
        lambda: Sequential(
            Conv2D(3, 2, data_format="NHWC"),
            BatchNorm(data_format="NHWC"),
            Sigmoid(),
            Pool2D(2, stride=1, data_format="NHWC"),
            Residual(Conv2D(3, 3, padding="same", data_format="NHWC")),
            Pool2D(2, stride=1, mode="average", data_format="NHWC"),
            Flatten(),
            Dense(2),
        ),
        (5, 4, 2),
    ),
    "dropout": (lambda: Sequential(Dense(6), BatchNorm(), Dropout(0.4), Dense(3, activation="softmax")), (4,)),
    "dropout twice": (lambda: Sequential(Dropout(0.2), Residual(Dropout(0.5)), Dense(2)), (5,)),
}


def _check_gradients(model, x, dy, make):
    """All parameter and input gradients of sum(y * dy) against central differences, on the host in float64."""

    def loss():
        for _, layer in model.named_layers():
            if isinstance(layer, Dropout):
                layer.step = 0  # the same masks every time
        y = model.forward(make(x))
        return float(np.sum(np.array(backend.to_numpy(y)) * dy))

    loss()
    model.zero_grad()
    dx = np.array(backend.to_numpy(model.backward(make(dy))))
    grads = [np.array(backend.to_numpy(p.grad)) for p in model.parameters()]

    def difference(shift):
        values = []
        for step in (H, -H):
            shift(step)
            values.append(loss())
            model.forget()
        shift(0.0)
        return (values[0] - values[1]) / (2 * H)

    for p, grad in zip(model.parameters(), grads, strict=True):
        expected, whole = np.empty(p.shape), np.array(backend.to_numpy(p.data))
        for i in np.ndindex(p.shape):

            def shift(step, i=i):
                moved = whole.copy()
                moved[i] += step
                p.data[...] = make(moved)

            expected[i] = difference(shift)
        assert_close(grad, expected, rtol=DIFFERENCES)

    expected, whole = np.empty(x.shape), x.copy()
    for i in np.ndindex(x.shape):

        def shift(step, i=i):
            x[i] = whole[i] + step

        expected[i] = difference(shift)
    assert_close(dx, expected, rtol=DIFFERENCES)
    assert any(np.abs(g).max() > 1e-3 for g in [*grads, dx])


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, rng):
    make, shape = MODELS[name]
    with backend.using("numpy", dtype="float64"):
        model = make().build(shape, rng=4)
    for p in model.parameters():  # off the special points: scales of one, shifts and biases of zero
        p.data[...] += 0.3 * rng.normal(size=p.shape)
    x = rng.normal(size=(3, *shape))
    _check_gradients(model, x, rng.normal(size=(3, *model.output_shape(shape))), np.array)


def test_gradients_on_every_library(xp, rng):
    body = Sequential(Conv2D(2, 2, padding="same"), BatchNorm())
    model = Sequential(Residual(body, Conv2D(2, 1)), Tanh(), Pool2D(2), Flatten(), Dense(2))
    with backend.using(xp.backend_name, dtype="float64"):
        model.build((1, 3, 2), rng=4)
    x, dy = rng.normal(size=(2, 1, 3, 2)), rng.normal(size=(2, 2))
    _check_gradients(model, x, dy, lambda a: xp.asarray(a, "float64"))


def test_output_shapes(rng):
    for make, shape in MODELS.values():
        model = make()
        expected = model.output_shape(shape)
        assert model(rng.normal(size=(2, *shape))).shape == (2, *expected)
        assert model.output_shape(shape) == expected


# --- names -----------------------------------------------------------------------------------------


def test_access():
    layers = [Dense(3), ReLU(), Dense(2)]
    model = Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[0] is model["0"] is layers[0]
    assert model[-1] is layers[2]
    named = Sequential({"first": layers[0], "last": layers[2]})
    assert named["last"] is named[1] is layers[2]


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Sequential(), "Sequential: expected at least one layer"),
        (lambda: Sequential({}), "Sequential: expected at least one layer"),
        (lambda: Sequential(Dense(2), "relu"), r"Sequential: expected layers, got 'relu' \(str\) as '1'"),
        (lambda: Sequential([Dense(2)]), r"Sequential: expected layers, got \[Dense\(units=2\)\] \(list\) as '0'"),
        (lambda: Sequential({"a.b": Dense(2)}), "a layer's name must be a word without dots, got 'a.b'"),
        (lambda: Sequential({"": Dense(2)}), "a layer's name must be a word without dots, got ''"),
        (lambda: Residual("relu"), "Residual: body must be a layer, got 'relu'"),
        (lambda: Residual(None), "Residual: body must be a layer, got None"),
        (lambda: Residual(Dense(2), 3), "Residual: shortcut must be a layer, got 3"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_residual_shapes():
    with pytest.raises(ShapeError) as error:
        Sequential({"block": Residual(Conv2D(4, 3, padding=1))}).build((3, 8, 8))
    assert str(error.value) == (
        'Residual (layer "block"): the branches must give one shape, but body gives (4, 8, 8), shortcut gives '
        "(3, 8, 8); give a shortcut of the body's shape, such as Conv2D(filters, 1, stride=...)"
    )
    with pytest.raises(ShapeError, match=r'Conv2D \(layer "block\.shortcut"\): the output would have'):
        Sequential({"block": Residual(ReLU(), Conv2D(4, 9))}).build((3, 8, 8))
    # one that fits at the size it was built for, and would broadcast at another
    block = Residual(Pool2D(3, padding=1)).build((1, 1, 1))
    with pytest.raises(ShapeError, match=r"body gives \(1, 1, 1\), shortcut gives \(1, 3, 3\)"):
        block.forward(np.ones((2, 1, 3, 3), np.float32))
    assert block._pending == block.body._pending == []


# --- errors on the way through ----------------------------------------------------------------------


def _nested():
    features = Sequential(Conv2D(3, 3), ReLU(), Residual(Sequential(ReLU(), Conv2D(3, 3, padding=1))), Conv2D(2, 3))
    model = Sequential({"features": features, "flatten": Flatten(), "head": Sequential({"out": Dense(2)})})
    return model.build((3, 8, 8), rng=1)


def _message(model, x):
    with pytest.raises(OperationError) as caught:
        model.forward(x)
    return type(caught.value), str(caught.value)


def test_wrong_channels_name_the_path():
    model = _nested()
    kind, text = _message(model, np.ones((2, 1, 8, 8), np.float32))
    assert kind is ShapeError
    assert text == (
        'conv2d (layer "features.0"): x has 1 channels but W expects 3 (x.shape=(2, 1, 8, 8), W.shape=(3, 3, 3, 3))'
    )
    for path, layer in (("features.2.body.1", model["features"][2].body[1]), ("features.3", model["features"][3])):
        right = layer.W.data
        layer.W.data = np.ones((2, 5, 3, 3), np.float32)
        kind, text = _message(model, np.ones((2, 3, 8, 8), np.float32))
        assert kind is ShapeError
        assert text.startswith(f'conv2d (layer "{path}"): x has 3 channels but W expects 5')
        layer.W.data = right


def test_wrong_size_names_the_path():
    kind, text = _message(_nested(), np.ones((2, 3, 9, 8), np.float32))
    assert kind is ShapeError
    assert text.startswith('linear (layer "head.out"): x has 40 features but W expects 32')


def test_wrong_number_of_axes():
    kind, text = _message(_nested(), np.ones((3, 8, 8), np.float32))
    assert kind is ShapeError
    assert text.startswith('conv2d (layer "features.0"): x must have 4 axes (N, C, H, W), got shape (3, 8, 8); give a')
    kind, text = _message(_nested(), np.ones((2, 3, 8, 8, 1), np.float32))
    assert text == 'conv2d (layer "features.0"): x must have 4 axes (N, C, H, W), got shape (2, 3, 8, 8, 1)'


def test_wrong_dtype():
    x = np.ones((2, 3, 8, 8))
    kind, text = _message(_nested(), x)
    assert kind is ArrayMismatchError
    assert text == (
        'conv2d (layer "features.0"): x is numpy float64 on cpu but W is numpy float32 on cpu; '
        "convert one to the other's float type"
    )
    for wrong in (x.astype(np.uint8), x.astype(complex)):
        kind, text = _message(_nested(), wrong)
        assert kind is DTypeError
        assert f"x must hold floating-point numbers, got {wrong.dtype}" in text


def test_wrong_library(xp):
    """Both sides and the remedy; nothing is copied silently."""
    with backend.using("numpy"):
        model = _nested()
    if xp.name.startswith("numpy"):
        model.to("array_api_strict")
    kind, text = _message(model, xp.asarray(np.ones((2, 3, 8, 8)), "float32"))
    names = {type(a).__module__.partition(".")[0] for a in (model.parameters()[0].data, xp.asarray(1.0))}
    assert len(names) == 2
    assert kind is ArrayMismatchError
    assert text.startswith('conv2d (layer "features.0"): x is ')
    assert all(name in text for name in names)
    assert text.endswith("move one with xpnet.backend.asarray, or the model with model.to(...)")


def test_wrong_device(xp):
    if "strict" not in xp.name:
        pytest.skip("one device only")
    with backend.using("array_api_strict:device2"):
        model = _nested()
    kind, text = _message(model, xp.asarray(np.ones((2, 3, 8, 8)), "float32"))
    assert kind is ArrayMismatchError
    assert text.count(" on ") == 2
    assert "device2" in text
    assert "model.to(...)" in text


def test_backward_names_the_path():
    model = _nested()
    model.forward(np.ones((2, 3, 8, 8), np.float32))
    with pytest.raises(
        ShapeError, match=r'linear_backward \(layer "head\.out"\): dy has shape \(2, 3\) but the forward'
    ):
        model.backward(np.ones((2, 3), np.float32))


@pytest.mark.parametrize("where", ["features.3", "features.2.body.1", "head.out"])
def test_failure_in_the_middle_leaves_nothing(where, rng):
    """After an exception, of any kind, no context waits, and the next step is that of a fresh model."""
    x, dy = rng.normal(size=(2, 3, 8, 8)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32)
    model, fresh = _nested(), _nested()
    layer = dict(model.named_layers())[where]
    for error in (KeyboardInterrupt, MemoryError, ShapeError):

        def fail(x, train, error=error):
            raise error("conv2d", "as if")

        layer._forward = fail
        with pytest.raises(error):
            model.forward(x)
        del layer._forward
        assert not any(below._pending for _, below in model.named_layers())
    for net in (model, fresh):
        net.forward(x)
    assert np.array_equal(model.backward(dy), fresh.backward(dy))
    for mine, other in zip(model.parameters(), fresh.parameters(), strict=True):
        assert np.array_equal(mine.grad, other.grad)


def test_failure_in_a_shortcut_keeps_earlier_forwards(rng):
    block = Residual(Dense(3), Dense(3)).build((3,))
    x = rng.normal(size=(2, 3)).astype(np.float32)
    block.forward(x)
    block.shortcut._forward = lambda x, train: 1 / 0
    with pytest.raises(ZeroDivisionError):
        block.forward(2 * x)
    del block.shortcut._forward
    dx = block.backward(x)
    block.forward(x)
    assert np.array_equal(block.backward(x), dx)


def test_repr():
    model = Sequential({"a": Dense(2), "b": Residual(Sequential(ReLU(), Dense(2)), Dense(2))})
    assert repr(model) == (
        "Sequential(\n  a: Dense(units=2)\n  b: Residual(\n    body: Sequential(\n      0: ReLU()\n"
        "      1: Dense(units=2)\n    )\n    shortcut: Dense(units=2)\n  )\n)"
    )
