"""Activations as layers: the functional pairs, by class and by name, and what they keep."""

import numpy as np
import pytest

from xpnet import functional as F
from xpnet import layers as L
from xpnet.errors import ArgumentError
from xpnet.layers import Activation, Conv2D, Dense, Sequential
from xpnet.layers.activation import _ACTIVATIONS
from xpnet.testing import assert_close

# name -> the layer, and settings other than its defaults
KINDS = {
    "affine": (L.Affine, {"slope": -2.0, "intercept": 0.5}),
    "elu": (L.ELU, {"alpha": 0.5}),
    "exponential": (L.Exponential, {}),
    "gelu": (L.GELU, {"approximate": "tanh"}),
    "hard_sigmoid": (L.HardSigmoid, {}),
    "relu6": (L.ReLU6, {}),
    "hard_swish": (L.HardSwish, {}),
    "identity": (L.Identity, {}),
    "leaky_relu": (L.LeakyReLU, {"slope": 0.2}),
    "log_softmax": (L.LogSoftmax, {"axis": 1}),
    "mish": (L.Mish, {}),
    "relu": (L.ReLU, {}),
    "selu": (L.SELU, {}),
    "sigmoid": (L.Sigmoid, {}),
    "silu": (L.SiLU, {}),
    "softmax": (L.Softmax, {"axis": 1}),
    "softplus": (L.Softplus, {}),
    "softsign": (L.Softsign, {}),
    "step": (L.Step, {}),
    "tanh": (L.Tanh, {}),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def test_table_is_complete():
    assert set(KINDS) == {"identity", *_ACTIVATIONS}
    assert {cls for cls, _ in KINDS.values()} | {Activation} == {
        thing for thing in vars(L).values() if isinstance(thing, type) and issubclass(thing, Activation)
    }


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4, 5)])
@every_kind
def test_layers(xp, rng, name, shape):
    cls, settings = KINDS[name]
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
    for given in [{}, settings] if settings else [{}]:
        y, ctx = forward(xp.asarray(x), **given)
        dx = xp.to_numpy(backward(xp.asarray(dy), ctx))
        for layer in (cls(**given), Activation(name, **given)):
            assert np.array_equal(xp.to_numpy(layer.forward(xp.asarray(x))), xp.to_numpy(y))
            assert np.array_equal(xp.to_numpy(layer.backward(xp.asarray(dy))), dx)
            layer.forward(xp.asarray(x))
            assert layer.backward(xp.asarray(dy), need_dx=False) is None
            assert layer.parameters() == []
            assert layer.output_shape(shape[1:]) == shape[1:]


@every_kind
def test_inside_other_layers(xp, rng, name):
    """Conv2D and Dense by name equal the layer and the activation one after the other."""
    cls, _ = KINDS[name]
    for layer, shape in ((Conv2D, (2, 3, 4, 5)), (Dense, (4, 3))):
        settings = {"filters": 2, "kernel_size": 3} if layer is Conv2D else {"units": 2}
        x = xp.asarray(rng.normal(size=shape), "float32")
        inside, outside = layer(**settings, activation=name), Sequential(layer(**settings), cls())
        y = inside.forward(x)
        assert np.array_equal(xp.to_numpy(y), xp.to_numpy(outside.forward(x)))
        dy = xp.asarray(rng.normal(size=tuple(y.shape)), "float32")
        assert np.array_equal(xp.to_numpy(inside.backward(dy)), xp.to_numpy(outside.backward(dy)))
        assert_close(inside.W.grad, xp.to_numpy(outside.parameters()[0].grad))


def test_identity(xp, rng):
    x = xp.asarray(rng.normal(size=(3, 5)), "float32")
    layer = Activation("identity")
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(x))
    assert np.array_equal(xp.to_numpy(layer.backward(x)), xp.to_numpy(x))


# --- memory --------------------------------------------------------------------------------------


def kept_arrays(ctx):
    found = [ctx] if isinstance(ctx, np.ndarray) else []
    return found + [a for part in ctx for a in kept_arrays(part)] if isinstance(ctx, tuple) else found


@every_kind
def test_summary_counts_the_array_that_is_kept(rng, name):
    x = rng.normal(size=(3, 5)).astype(np.float32)
    layer = KINDS[name][0]()
    y = layer.forward(x)
    held = [a for a in kept_arrays(layer._pending[0]) if a.size > 1]
    keeps = layer._keeps((5,), (5,), 4)
    assert keeps == (any(a is x for a in held), any(a is y for a in held), 0)
    assert len(held) <= 1
    assert layer.summary((5,)).kept_bytes == 20 * len(held)


@pytest.mark.parametrize("name, kept", [("identity", 0), ("step", 0), ("relu", 1), ("gelu", 1), ("mish", 1)])
def test_summary_of_an_activation_inside(rng, name, kept):
    """Beside the input: the output, or what the activation was given, which is as large."""
    for layer, shape, output in ((Conv2D(3, 3, activation=name), (2, 5, 5), 27), (Dense(3, activation=name), (4,), 3)):
        x = rng.normal(size=(1, *shape)).astype(np.float32)
        layer.forward(x)
        unique = {id(a): a for a in kept_arrays(layer._pending[0])}.values()
        held = sum(a.nbytes for a in unique if a is not layer.W.data)
        assert layer.summary(shape).kept_bytes == x.nbytes + 4 * output * kept == held


def test_next_layer_shares_what_is_kept():
    """relu's output is the next input; gelu keeps its input, which nobody else does."""
    shared = Sequential(Dense(8, activation="relu"), Dense(2)).summary((4,))
    assert [row.kept_bytes for row in shared.rows] == [4 * (4 + 8), 0]
    own = Sequential(Dense(8, activation="gelu"), Dense(2)).summary((4,))
    assert [row.kept_bytes for row in own.rows] == [4 * (4 + 8), 4 * 8]
    through = Sequential(Dense(8, activation="relu"), L.Identity(), Dense(2)).summary((4,))
    assert [row.kept_bytes for row in through.rows] == [4 * (4 + 8), 0, 0]


# --- refusals and repr -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Activation("swash"), "Activation: no activation 'swash'; there are identity, relu, sigmoid"),
        (lambda: Activation("relu", slope=1), "Activation: relu has no setting 'slope'; it has none"),
        (lambda: Activation("identity", slope=1), "Activation: identity has no setting 'slope'; it has none"),
        (
            lambda: Activation("affine", scale=1),
            "Activation: affine has no setting 'scale'; did you mean 'slope'\\? It has slope, intercept",
        ),
        (lambda: L.LeakyReLU("a"), "LeakyReLU: slope must be finite and at least 0, got 'a'"),
        (lambda: L.LeakyReLU(-1), "LeakyReLU: slope must be finite and at least 0, got -1"),
        (lambda: Activation("elu", alpha=-1), "Activation: alpha must be finite and at least 0, got -1"),
        (lambda: L.GELU("erf"), "GELU: approximate must be one of none, tanh, got 'erf'"),
        (lambda: Dense(2, activation="prelu"), r"Dense: prelu has slopes to learn; put the layer PReLU\(\) after this"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        make()


def test_repr():
    assert repr(Activation("relu")) == "Activation(name='relu')"
    assert repr(Activation("leaky_relu", slope=0.2)) == "Activation(name='leaky_relu', slope=0.2)"
    assert repr(Sequential(L.ReLU(), L.Sigmoid())) == "Sequential(\n  0: ReLU()\n  1: Sigmoid()\n)"
    assert [repr(a) for a in (L.LeakyReLU(), L.LeakyReLU(0.2))] == ["LeakyReLU()", "LeakyReLU(slope=0.2)"]
    assert [repr(a) for a in (L.Softmax(), L.Identity(), L.Affine(2))] == [
        "Softmax()",
        "Identity()",
        "Affine(slope=2.0)",
    ]
