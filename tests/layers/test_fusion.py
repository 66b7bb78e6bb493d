"""Neighbours run as one give what they give alone: values, gradients, statistics, errors; and they are run as one."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from tests.conftest import VARIANTS
from xpnet import backend, config
from xpnet.errors import NonFiniteError, ShapeError
from xpnet.kernels import table
from xpnet.layers import (
    Activation,
    Add,
    BatchNorm,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Flatten,
    Identity,
    Observer,
    Pool2D,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    Tanh,
    observing,
)
from xpnet.models import ResNet
from xpnet.testing import assert_close


def _shared():
    norm, relu = BatchNorm(), ReLU()
    return Sequential(Conv2D(3, 3, padding=1), norm, relu, Conv2D(3, 1), norm, relu)


MODELS = {
    "conv, relu": lambda: Sequential(Conv2D(4, 3, bias_init="normal"), ReLU(), Conv2D(2, 1), Activation("relu")),
    "conv, norm": lambda: Sequential(Conv2D(4, 3, padding=1, bias_init="normal"), BatchNorm(), Conv2D(2, 3)),
    "conv, norm, relu": lambda: Sequential(Conv2D(4, 3, bias=False), BatchNorm(), ReLU(), Flatten(), Dense(2)),
    "norm, relu": lambda: Sequential(BatchNorm(), ReLU(), BatchNorm(affine=False), ReLU()),
    "plain norm": lambda: Sequential(Conv2D(4, 3), BatchNorm(affine=False, momentum=None), ReLU()),
    "groups, strides": lambda: Sequential(
        Conv2D(6, 3, groups=3, stride=2, dilation=2, padding="same"), BatchNorm(eps=0.1), ReLU()
    ),
    "depthwise": lambda: Sequential(Conv2D(3, 3, groups=3), BatchNorm(), ReLU(), SeparableConv2D(4, 3), ReLU()),
    "winograd": lambda: Sequential(Conv2D(4, 3, padding=1, algorithm="winograd"), BatchNorm(), ReLU()),
    "transposed": lambda: Sequential(ConvTranspose2D(4, 3), BatchNorm(), ReLU(), ConvTranspose2D(4, 3), ReLU()),
    "dense": lambda: Sequential(
        Flatten(), Dense(5), ReLU(), Dense(4), BatchNorm(), ReLU(), Dense(3, activation="tanh")
    ),
    "sum": lambda: Sequential(Residual(Sequential(Conv2D(3, 3, padding=1), BatchNorm())), ReLU(), Conv2D(2, 3)),
    "three branches": lambda: Sequential(Add(Conv2D(2, 1), Conv2D(2, 1), Conv2D(2, 1)), ReLU(), Add(ReLU()), ReLU()),
    "a sum after a sum": lambda: Sequential(
        Residual(Sequential(Conv2D(3, 3, padding=1), BatchNorm(), ReLU(), Conv2D(3, 1), BatchNorm())),
        ReLU(),
        Residual(Conv2D(3, 1), Sequential(ReLU(), Sequential(Tanh()))),
        ReLU(),
        Add(Flatten(), Flatten()),
        ReLU(),
        Sequential(Residual(Identity(), Dense(126)), Sigmoid()),
    ),
    "one layer in two branches": lambda: (lambda conv: Sequential(Add(conv, conv), ReLU(), Residual(conv), ReLU()))(
        Conv2D(3, 1)
    ),
    "branches that return what they are given": lambda: Sequential(
        Conv2D(3, 1), Residual(Sequential(Identity(), Flatten(), Identity()), Flatten()), ReLU(), Dense(2), Identity()
    ),
    "checkpoints": lambda: Sequential(
        Conv2D(4, 3), BatchNorm(), ReLU(), Conv2D(4, 3), ReLU(), Flatten(), Dense(2), checkpoint_every=2
    ),
    "shared": _shared,
    "pools after activations": lambda: Sequential(
        Conv2D(4, 2, activation="relu"), Pool2D(2), Conv2D(3, 2, activation="sigmoid"), Tanh(), Flatten(), Dense(2)
    ),
    "pools after relu": lambda: Sequential(
        Conv2D(4, 2, bias_init="normal"),
        ReLU(),
        Pool2D(3, stride=1, padding=1),
        Conv2D(3, 2, activation="relu"),
        Pool2D(2, stride=1, mode="average"),
        Conv2D(5, 1, activation="relu", bias=False),
        Pool2D(2, ceil_mode=True),
        ReLU(),
        Conv2D(3, 1, activation="relu"),
        ReLU(),
        Pool2D(1),
    ),
    "activations by themselves": lambda: Sequential(
        Conv2D(3, 2, activation="tanh"),
        Conv2D(3, 1),
        Sigmoid(),
        Pool2D(2),
        SeparableConv2D(2, 1, activation="relu"),
        ConvTranspose2D(2, 2, activation="relu"),
        Flatten(),
        Dense(4),
        Tanh(),
        Dense(2),
    ),
    "relu alone": lambda: Sequential(ReLU(), ReLU(), Flatten(), Dense(2)),
}
SHAPE = (3, 7, 6)


def made(xp, name, dtype, rng):
    """A model after some training, so that its statistics, scales and shifts are its own."""
    model = MODELS[name]().build(SHAPE, rng=1).to(VARIANTS[xp.name], dtype=dtype)
    for path, p in model.named_parameters():
        if path.endswith(("gamma", "beta")):
            p.data[...] = backend.asarray(rng.standard_normal(p.shape) + 1.0, dtype=p.data.dtype)
    for path, layer, attribute in model.named_buffers():
        old = getattr(layer, attribute)
        values = rng.random(tuple(old.shape)) + 0.5 if "batches" not in path else np.full(tuple(old.shape), 3.0)
        setattr(layer, attribute, backend.asarray(values, dtype=old.dtype))
    return model


def alone(model, x, dy):
    """One training step and one inference, layer by layer: an observer that only looks makes each run alone."""
    with observing(Observer()):
        return step(model, x, dy)


def step(model, x, dy):
    model.zero_grad()
    inference = model.predict(x)
    y = model.forward(x)
    dx = model.backward(dy)
    results = {"inference": inference, "y": y, "dx": dx} | {f"d{path}": p.grad for path, p in model.named_parameters()}
    return results | {path: getattr(layer, name) for path, layer, name in model.named_buffers()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_values_gradients_and_statistics_are_those_of_the_layers_alone(xp, name, dtype, rng):
    models = [made(xp, name, dtype, np.random.default_rng(2)) for _ in range(2)]
    x = xp.asarray(rng.standard_normal((5, *SHAPE)), dtype)
    dy = xp.asarray(rng.standard_normal((5, *models[0].output_shape(SHAPE))), dtype)
    given = xp.to_numpy(dy)
    got, expected = step(models[0], x, dy), alone(models[1], x, dy)
    np.testing.assert_array_equal(xp.to_numpy(dy), given)  # only what the layers make for each other is written over
    assert got.keys() == expected.keys()
    for what, array in got.items():
        assert array.dtype == expected[what].dtype
        assert_close(array, xp.to_numpy(expected[what]), terms=400)
    assert not any(layer._pending for _, layer in models[0].named_layers())


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_either_order_of_axes(xp, data_format, rng):
    def make():
        conv, norm = Conv2D(4, 3, data_format=data_format), BatchNorm(data_format=data_format)
        return Sequential(conv, norm, ReLU(), Conv2D(2, 3, data_format=data_format), ReLU())

    shape = SHAPE if data_format == "NCHW" else (*SHAPE[1:], SHAPE[0])
    models = [make().build(shape, rng=0) for _ in range(2)]
    x = xp.asarray(rng.standard_normal((4, *shape)), "float32")
    dy = xp.asarray(rng.standard_normal((4, *models[0].output_shape(shape))), "float32")
    got, expected = step(models[0], x, dy), alone(models[1], x, dy)
    for what, array in got.items():
        assert_close(array, xp.to_numpy(expected[what]), terms=400)


@pytest.fixture
def calls(monkeypatch):
    """The names of the kernels called, in order."""
    with backend.using("numpy"):
        table.load("numpy")
    called = []
    with config.using(compiled="off"):
        for key, kernel in list(table._TABLE.items()):
            if key[0] == "numpy":
                monkeypatch.setitem(
                    table._TABLE, key, lambda *a, _k=kernel, _n=key[1], **b: (called.append(_n), _k(*a, **b))[1]
                )
        yield called


@pytest.fixture(autouse=True)
def on_numpy_if_nothing_else(request):
    if "xp" in request.fixturenames:
        yield
        return
    with backend.using("numpy", dtype="float32"):
        yield


PASSES = {"batch_norm_forward", "relu_forward", "relu_backward", "add", "add_relu"}


def passes(called):
    return [name for name in called if name in PASSES]


def test_resnet_has_no_pass_of_its_own_for_relu(calls, rng):
    model = ResNet(20).build((3, 8, 8), rng=0)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    model.forward(x)
    assert passes(calls).count("batch_norm_forward") == 19
    assert passes(calls).count("add_relu") == 9
    assert "relu_forward" not in calls
    calls.clear()
    model.forget()
    model.predict(x)
    assert set(passes(calls)) == {"add_relu"}  # normalisation is in the weights


@pytest.mark.parametrize("relu", [(), (ReLU(),)])
@pytest.mark.parametrize("mode", ["max", "average"])
def test_relu_is_gone_back_through_behind_a_maximum_pooling(mode, relu, calls, rng):
    first = Conv2D(4, 3, activation=None if relu else "relu")
    model = Sequential(first, *relu, Pool2D(2, mode=mode), Flatten(), Dense(2)).build(SHAPE, rng=0)
    y = model.forward(rng.standard_normal((5, *SHAPE)).astype(np.float32))
    calls.clear()
    model.backward(np.ones_like(y))
    kernel = "relu_backward" if mode == "max" else "relu_bias_backward"
    assert [name for name in calls if name.startswith("relu")] == [kernel]


def test_what_a_user_derives_runs_as_written(rng):
    class Loud(BatchNorm):
        def _forward(self, x, train):
            y, ctx = super()._forward(x, train)
            return 2.0 * y, ctx

    class Sum(Add):
        def _merge(self, outputs):
            return outputs[0] - outputs[1], None

    class Difference(Add):
        def _merge(self, outputs):
            return outputs[0] - outputs[1], "mine"

        def _split(self, dy, ctx):
            assert ctx == "mine"
            return [dy, -dy]

    class Doubled(Conv2D):
        def _forward(self, x, train):
            y, ctx = super()._forward(x, train)
            return 2.0 * y, ctx

    class Clipped(ReLU):
        def _forward(self, x, train):
            y, ctx = super()._forward(x, train)
            return np.minimum(y, 0.5), ctx

    model = Sequential(Doubled(2, 3), Loud(), ReLU(), Sum(Conv2D(2, 1), Conv2D(2, 1)), ReLU(), Conv2D(2, 1), Clipped())
    x = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    model.build((2, 6, 6))
    for train in (True, False):
        expected = x
        for layer in model:
            expected = layer.forward(expected, train)
        y = model.forward(x, train)
        if not train:  # in training the running statistics have moved, but are not used
            assert_close(y, expected)
        assert y.max() <= 0.5
    nothing = Sequential(Difference(Identity(), Identity()), ReLU())
    assert np.all(nothing.forward(x) == 0.0)
    assert np.all(nothing.backward(np.ones_like(x)) == 0.0)


def test_an_observer_sees_every_layer(rng):
    seen = []

    class Names(Observer):
        def after_forward(self, layer, x, y):
            seen.append((type(layer).__name__, float(y.min()) < 0.0))
            return y

    model = Sequential(Conv2D(2, 3), BatchNorm(), ReLU())
    with observing(Names()):
        model.predict(rng.standard_normal((3, 2, 6, 6)).astype(np.float32))
    assert seen == [("Conv2D", True), ("BatchNorm", True), ("ReLU", False), ("Sequential", False)]


def test_the_guard_names_the_layer_that_is_not_finite(rng):
    model = Sequential({"conv": Conv2D(2, 3), "norm": BatchNorm(), "relu": ReLU()}).build((2, 6, 6))
    model["norm"].gamma.data[0] = np.nan
    x = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    for train in (True, False):
        with config.using(nan_guard=True), pytest.raises(NonFiniteError, match=r'BatchNorm .layer "norm"'):
            model.forward(x, train)


@pytest.mark.parametrize("train", [True, False])
def test_what_is_no_number_is_seen_through_relu(xp, train):
    """NaN stays NaN where it is, whichever way the layers run."""
    model = Sequential(BatchNorm(), ReLU(), Residual(ReLU()), ReLU(), Conv2D(2, 1), ReLU()).build((2, 3, 3))
    host = np.ones((2, 2, 3, 3), np.float32)
    host[0, 1, 2, 2] = np.nan
    y = xp.to_numpy(model.forward(xp.asarray(host), train))
    assert np.isnan(y).any()


def test_a_mean_far_from_zero_keeps_its_digits(xp, rng):
    """The spread is a thousandth of the mean: in float32 a factor and a number for each channel would lose it."""
    model = Sequential(Conv2D(2, 1, bias=False), BatchNorm()).build((1, 5, 5))
    model[0].W.data[...] = backend.asarray(np.ones((2, 1, 1, 1), np.float32))
    model[1].running_mean = xp.asarray(np.full(2, 1000.0, np.float32))
    model[1].running_var = xp.asarray(np.full(2, 0.01, np.float32))
    x = (1000.0 + 0.1 * rng.standard_normal((4, 1, 5, 5))).astype(np.float32)
    y = xp.to_numpy(model.predict(xp.asarray(x)))
    exact = (x.astype(np.float64) - 1000.0) / np.sqrt(0.01 + 1e-5)
    np.testing.assert_allclose(y, np.repeat(exact, 2, axis=1), rtol=1e-4, atol=1e-4)


def test_an_error_has_the_path_of_the_layer_and_leaves_nothing_behind(rng):
    model = Sequential({"conv": Conv2D(2, 3), "norm": BatchNorm(), "relu": ReLU()}).build((2, 6, 6))
    for train in (True, False):
        with pytest.raises(ShapeError, match=r'conv2d .layer "conv".: x has 3 channels but W expects 2'):
            model.forward(np.ones((4, 3, 6, 6), np.float32), train)
    assert not any(layer._pending for _, layer in model.named_layers())


def test_layers_can_be_walked_backward_one_by_one(rng):
    """As the book does it: whatever ran together in forward, each layer's backward is called by itself."""
    model = Sequential(Conv2D(3, 3), BatchNorm(), ReLU(), Conv2D(2, 1), ReLU()).build((2, 6, 6), rng=0)
    other = Sequential(Conv2D(3, 3), BatchNorm(), ReLU(), Conv2D(2, 1), ReLU()).build((2, 6, 6), rng=0)
    x = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    dy = rng.standard_normal(model.forward(x).shape).astype(np.float32)
    dx = dy
    for layer in reversed(list(model)):
        dx = layer.backward(dx)
    for layer in other:
        x = layer.forward(x)
    expected = dy
    for layer in reversed(list(other)):
        expected = layer.backward(expected)
    assert_close(dx, expected, terms=50)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(p.grad, q.grad, terms=200)


def test_every_inference_takes_weights_and_statistics_as_they_are(xp, rng):
    inner = Sequential(Conv2D(3, 3, padding=1), BatchNorm())
    model = Sequential(Conv2D(3, 1, bias=False), BatchNorm(), ReLU(), Residual(inner), ReLU()).build(SHAPE)
    x = xp.asarray(rng.standard_normal((4, *SHAPE)), "float32")
    for _ in range(2):
        got = model.predict(x)
        with observing(Observer()):
            assert_close(got, xp.to_numpy(model.predict(x)), terms=400)
        for layer in (model[0], inner[0]):
            layer.W.data[...] = layer.W.data * 2.0 + 1.0
        inner[1].running_mean = inner[1].running_mean + 0.5
        inner[1].gamma.data[...] = inner[1].gamma.data - 3.0


class Watching(ReLU):
    """Notes in its backward whether an array still lives."""

    watched = alive = None

    def _backward(self, dy, ctx, need_dx):
        self.alive = self.watched() is not None
        return dy


def test_the_output_of_a_sum_with_relu_is_freed_before_its_branches_go_back():
    """It is as large as their arrays, and their backward is where a step has its peak."""
    with backend.using("numpy"):
        branch = Watching()
        model = Sequential(Residual(branch), ReLU())
        y = model.forward(np.ones((2, 3, 4, 4), np.float32))
        branch.watched = weakref.ref(y)
        dy = np.ones_like(y)
        del y
        model.backward(dy)
        assert branch.alive is False
