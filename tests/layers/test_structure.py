"""Layers of one's own that are made of layers, and models whose parts are exchanged."""

import copy
import pickle

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArgumentError, NonFiniteError, OperationError, StateError
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Multiply,
    ReLU,
    Residual,
    Sequential,
    structure,
)
from xpnet.layers.state import moving
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import SGD, Adam
from xpnet.training import train_step


class Two(Layer):
    """As a user would write it, without a word about building."""

    def __init__(self, units=4, rate=0.0):
        super().__init__()
        self.first, self.norm = Dense(units, activation="tanh"), BatchNorm(momentum=0.5)
        self.drop = Dropout(rate)

    def output_shape(self, input_shape):
        return self.first.output_shape(input_shape)

    def _forward(self, x, train):
        return self.drop.forward(self.norm.forward(self.first.forward(x, train), train), train), None

    def _backward(self, dy, ctx, need_dx):
        return self.first.backward(self.norm.backward(self.drop.backward(dy)), need_dx=need_dx)


class Twice(Layer):
    def __init__(self, units):
        super().__init__()
        self.part = Dense(units)

    def _forward(self, x, train):
        return self.part.forward(self.part.forward(x, train), train), None

    def _backward(self, dy, ctx, need_dx):
        return self.part.backward(self.part.backward(dy), need_dx=need_dx)


class Sometimes(Twice):
    used = True

    def _forward(self, x, train):
        used = self.used
        self.used = not used
        return (self.part.forward(x, train) if used else x), used

    def _backward(self, dy, used, need_dx):
        return self.part.backward(dy, need_dx=need_dx) if used else dy


class Broken(Twice):
    def _forward(self, x, train):
        self.part.forward(x, train)
        raise ZeroDivisionError("of the user")


class BrokenInTraining(Broken):
    def _forward(self, x, train):
        return super()._forward(x, train) if train else (self.part.forward(x, train), None)


@pytest.fixture
def data(xp, rng):
    x = rng.standard_normal((12, 5)).astype(np.float32)
    return backend.asarray(x), backend.asarray(np.argmax(x[:, :3], axis=1), dtype=None)


def steps(model, data, optimizer, count=1):
    return [float(train_step(model, SoftmaxCrossEntropy(), optimizer, *data)) for _ in range(count)]


def values(model):
    return {p.name: np.array(backend.to_numpy(p.data)) for p in model.parameters()}


def test_a_layer_made_of_layers_learns(xp, data):
    for make in (lambda: Sequential(Two(3)), lambda: Sequential(Two(), Dense(3))):
        model = make().build((5,), rng=3)
        before = values(model)
        assert list(before)[:4] == ["0.first.W", "0.first.b", "0.norm.gamma", "0.norm.beta"]
        losses = steps(model, data, SGD(lr=0.3), 20)
        assert losses[-1] < 0.8 * losses[0]
        after = values(model)
        assert all(np.any(after[name] != before[name]) for name in before)
        again = make().build((5,), rng=3)
        assert steps(again, data, SGD(lr=0.3), 20) == losses
        assert model.summary().parameters == sum(p.size for p in model.parameters())


def test_built_by_the_first_batch_it_learns_as_well(xp, data):
    losses = steps(Sequential(Two(), Dense(3)), data, SGD(lr=0.3), 20)
    assert losses[-1] < 0.8 * losses[0]


def test_what_inference_does_without_is_built_later_and_learns(xp, data):
    class InTraining(Two):
        def __init__(self):
            super().__init__()
            self.more = Dense(4)

        def _forward(self, x, train):
            y, _ = super()._forward(x, train)
            return (self.more.forward(y, train) if train else y), None

        def _backward(self, dy, ctx, need_dx):
            return super()._backward(self.more.backward(dy), ctx, need_dx)

    model = Sequential(InTraining(), Dense(3)).build((5,))
    optimizer = SGD(lr=0.3)
    losses = steps(model, data, optimizer, 20)
    assert losses[-1] < 0.8 * losses[0]
    assert [p.name for p in model.store.parameters][-4:] == ["0.more.W", "0.more.b", "1.W", "1.b"]


def test_an_exchanged_layer_is_the_one_that_learns(xp, data):
    class Model(Two):
        def __init__(self):
            super().__init__()
            self.head = Dense(7)

        def output_shape(self, input_shape):
            return self.head.output_shape(super().output_shape(input_shape))

        def _forward(self, x, train):
            return self.head.forward(super()._forward(x, train)[0], train), None

        def _backward(self, dy, ctx, need_dx):
            return super()._backward(self.head.backward(dy), None, need_dx)

    model = Model().build((5,))
    optimizer = Adam(lr=0.05)
    steps(model, data, optimizer)
    model.head = Dense(3)
    with pytest.raises(StateError, match="make a new optimizer"):
        steps(model, data, optimizer)
    before = values(model)
    losses = steps(model, data, SGD(lr=0.3), 20)
    assert losses[-1] < 0.8 * losses[0]
    assert {p.name for p in model.store.parameters} == set(before)
    assert before["head.W"].shape == (4, 3)
    assert np.any(values(model)["head.W"] != before["head.W"])


def test_an_exchanged_layer_of_a_copy_has_the_name_of_its_path(xp):
    model = copy.deepcopy(Two().build((5,)))
    model.first = Dense(4).build((5,))
    assert [p.name for p in model.store.parameters] == ["first.W", "first.b", "norm.gamma", "norm.beta"]


def test_what_was_noted_of_a_model_does_not_outlive_its_process(monkeypatch):
    """In another process the count of changes, by which it was noted, says something else."""
    model = Sequential(Sequential(inner := Twice(5)), Dense(3)).build((5,))
    inner.part = Sequential(ReLU())
    model.forward(np.ones((2, 5), np.float32))
    model.backward(np.ones((2, 3), np.float32), need_dx=False)  # learns from layer 1 on
    moving(model)
    saved = pickle.dumps(model)
    count = structure.changes()
    monkeypatch.setattr(structure, "_changes", 0)
    model = pickle.loads(saved)
    model[0][0].part = Sequential(Dense(5), Dropout()).build((5,))
    assert structure.changes() < count
    monkeypatch.setattr(structure, "_changes", count)
    put_back = moving(model)
    model.forward(np.ones((2, 5), np.float32))
    model.backward(np.ones((2, 3), np.float32), need_dx=False)
    assert np.any(model[0][0].part[0].W.grad != 0.0)
    put_back()
    assert model[0][0].part[1].step == 0


def test_containers_do_not_let_their_layers_be_exchanged():
    model = Sequential(Residual(Dense(4)), Dense(2))
    with pytest.raises(TypeError):
        model.children()["1"] = Dense(3)
    with pytest.raises(AttributeError):
        model[0].body = Dense(4)


def test_a_parameter_of_two_layers_is_one(xp, data):
    model = Sequential(Dense(5, bias=False), Dense(5, bias=False), Dense(3)).build((5,))
    model[1].W = model[0].W
    assert [p.name for p in model.store.parameters] == ["0.W", "2.W", "2.b"]
    steps(model, data, SGD(lr=0.1), 2)
    assert model[0].W.data is model[1].W.data


def test_what_could_not_be_built_can_be_built_once_it_is_mended(data):
    broken = Broken(4)
    model = Sequential(Dense(4), broken, Dense(3))
    with pytest.raises(ZeroDivisionError, match="of the user"):
        model.build((5,))
    assert not any(layer.built for _, layer in model.named_layers())
    broken._forward = super(Broken, broken)._forward
    assert [p.name for p in model.build((5,)).parameters()] == ["0.W", "0.b", "1.part.W", "1.part.b", "2.W", "2.b"]


@pytest.mark.parametrize("part", [Twice, Sometimes])
def test_contexts_are_dropped_as_often_as_there_are_any(data, part):
    model = Sequential(Dense(4), part(4), Dense(4), Dense(3), checkpoint_every=2).build((5,))
    for _ in range(3):
        steps(model, data, SGD())
        assert not any(layer._pending for _, layer in model.named_layers())
    for _ in range(2):
        model.forward(data[0])
        model.forward(data[0])
        model.drop_pending()
        model.drop_pending()
        assert not any(layer._pending for _, layer in model.named_layers())


def test_what_a_forward_that_fails_has_kept_is_dropped(data):
    model = Sequential(Dense(4), BrokenInTraining(4), Dense(3))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="of the user"):
            model.forward(data[0])
        assert not any(layer._pending for _, layer in model.named_layers())


@pytest.mark.parametrize("harm", ["a value", "a label"])
def test_a_step_that_fails_leaves_statistics_and_masks_alone(xp, data, harm):
    x, t = data
    if not backend.is_on_host(x):
        pytest.skip("looking at values would wait for the device")
    model = Sequential(Two(rate=0.5), Dense(3)).build((5,))
    steps(model, data, SGD())
    norm, before = model[0].norm, model.random_state()
    mean, var = (np.array(backend.to_numpy(a)) for a in (norm.running_mean, norm.running_var))
    bad = np.array(backend.to_numpy(x)), np.array(backend.to_numpy(t))
    if harm == "a value":
        bad[0][3, 2] = np.nan
    else:
        bad[1][3] = 7
    with pytest.raises((NonFiniteError, OperationError)):
        steps(model, (backend.asarray(bad[0]), backend.asarray(bad[1], dtype=None)), SGD())
    assert model.random_state() == before
    np.testing.assert_array_equal(backend.to_numpy(norm.running_mean), mean)
    np.testing.assert_array_equal(backend.to_numpy(norm.running_var), var)


def test_an_input_of_autograd_is_refused_and_spoils_nothing(data):
    torch = pytest.importorskip("torch")
    with backend.using("torch"):
        model = Dense(3).build((5,))
        x, t = torch.randn(4, 5), torch.arange(4) % 3
        with pytest.raises(ArgumentError, match=r"Dense: x requires a gradient .* give x.detach\(\)"):
            steps(model, (x.clone().requires_grad_(), t), SGD())
        steps(model, (x, t), SGD())


def test_the_outputs_that_a_product_keeps_are_in_the_summary():
    size = 16 * 8 * 8 * 4
    for first in (Conv2D(16, 3, padding=1), Sequential(Conv2D(16, 3, padding=1), ReLU())):
        model = Sequential(Multiply(first, Conv2D(16, 3, padding=1)), Flatten(), Dense(2)).build((3, 8, 8))
        # the input, the factors, and what Dense is given
        assert model.summary().kept_bytes == 3 * 8 * 8 * 4 + 2 * size + size
