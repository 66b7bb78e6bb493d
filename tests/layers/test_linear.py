"""Dense and Flatten against the functional pairs and torch."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.layers import Dense, Flatten
from xpnet.testing import assert_close

PAIRS = {
    "relu": (F.relu_forward, F.relu_backward),
    "sigmoid": (F.sigmoid_forward, F.sigmoid_backward),
    "softmax": (F.softmax_forward, F.softmax_backward),
    "tanh": (F.tanh_forward, F.tanh_backward),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, "identity", *PAIRS])
def test_equals_the_functional_pair(xp, rng, activation, bias):
    layer = Dense(4, activation=activation, bias=bias, bias_init="normal").build((5,), rng=1)
    x, dy = xp.asarray(rng.normal(size=(3, 5)), "float32"), xp.asarray(rng.normal(size=(3, 4)), "float32")
    y, ctx = F.linear_forward(x, layer.W.data, layer.b.data if bias else None)
    through = dy
    if activation in PAIRS:
        y, activation_ctx = PAIRS[activation][0](y)
        through = PAIRS[activation][1](dy, activation_ctx)
    dx, dW, db = F.linear_backward(through, ctx)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(dx))
    assert np.array_equal(xp.to_numpy(layer.W.grad), xp.to_numpy(dW))
    if bias:
        assert np.array_equal(xp.to_numpy(layer.b.grad), xp.to_numpy(db))
    assert [(p.name, p.decay) for p in layer.parameters()] == [("W", True), ("b", False)][: 1 + bias]
    assert layer.output_shape((5,)) == (4,)


@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch(rng, bias):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(5, 4, bias=bias, dtype=torch.float64)
    with backend.using("numpy", dtype="float64"):
        layer = Dense(4, bias=bias).build((5,))
    layer.load_state_dict({"W": theirs.weight.T} | ({"b": theirs.bias} if bias else {}))
    x = torch.tensor(rng.normal(size=(3, 5)), requires_grad=True)
    y = theirs(x)
    dy = rng.normal(size=(3, 4))
    y.backward(torch.tensor(dy))
    assert_close(layer.forward(x.detach().numpy()), y.detach().numpy(), terms=5)
    assert_close(layer.backward(dy), x.grad.numpy(), terms=4)
    assert_close(layer.W.grad, theirs.weight.grad.numpy().T, terms=3)
    if bias:
        assert_close(layer.b.grad, theirs.bias.grad.numpy(), terms=3)


@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (2, 3)])
def test_flatten(xp, rng, shape):
    layer = Flatten().build(shape)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    size = int(np.prod(shape))
    assert layer.output_shape(shape) == (size,)
    assert np.array_equal(xp.to_numpy(layer.forward(xp.asarray(x))), x.reshape(3, size))
    dy = rng.normal(size=(3, size)).astype(np.float32)
    assert np.array_equal(xp.to_numpy(layer.backward(xp.asarray(dy))), dy.reshape(x.shape))
    assert repr(layer) == "Flatten()"


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Dense(0), "units must be a positive int, got 0"),
        (lambda: Dense(-3), "units must be a positive int, got -3"),
        (lambda: Dense(1.5), r"units must be a positive int, got 1\.5"),
        (
            lambda: Dense(3, activation="swash"),
            "no activation 'swash'; there are identity, relu, sigmoid, softmax, tanh",
        ),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=f"^Dense: {text}"):
        make()


def test_bad_inputs():
    with pytest.raises(ShapeError, match=r"Dense: the input must be features .*got shape \(2, 3, 3\); put a Flatten"):
        Dense(3).build((2, 3, 3))
    layer = Dense(3).build((4,))
    with pytest.raises(ShapeError, match=r"linear: x has 5 features but W expects 4 \(x\.shape=\(2, 5\), W\.shape="):
        layer(np.ones((2, 5), np.float32))
    with pytest.raises(ShapeError, match="linear: the batch is empty"):
        layer(np.ones((0, 4), np.float32))
    with pytest.raises(DTypeError, match="linear: x must hold floating-point numbers, got int64"):
        layer(np.ones((2, 4), np.int64))


def test_repr():
    assert repr(Dense(3)) == "Dense(units=3)"
    assert repr(Dense(3, activation="relu", bias=False)) == "Dense(units=3, activation='relu', bias=False)"
