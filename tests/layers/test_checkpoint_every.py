"""Sequential(checkpoint_every=k): the same gradients, masks and statistics in less memory."""

import tracemalloc

import numpy as np
import pytest

from xpnet import backend
from xpnet.backend import to_numpy
from xpnet.errors import ArgumentError, OperationError, StateError
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, ReLU, Residual, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import SGD
from xpnet.training import train_step


def _layers(shared=False):
    conv = Conv2D(4, 3, padding=1)
    again = conv if shared else Conv2D(4, 3, padding=1)
    return (Conv2D(4, 3, padding=1), BatchNorm(), ReLU(), Dropout(0.3), again, BatchNorm(momentum=None),
            Residual(Sequential(conv, Dropout(0.5), ReLU())), Flatten(), Dropout(0.2), Dense(3))  # fmt: skip


def _train(model, steps=3):
    rng = np.random.default_rng(0)
    model.build((2, 6, 6), rng=1)
    optimizer, loss = SGD(lr=0.1), SoftmaxCrossEntropy()
    for _ in range(steps):
        x = backend.asarray(rng.normal(size=(5, 2, 6, 6)), dtype="float32")
        train_step(model, loss, optimizer, x, backend.asarray(rng.integers(0, 3, 5), dtype=None))
    return model


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.usefixtures("xp")
def test_equal_bits(every, shared):
    plain = _train(Sequential(*_layers(shared)))
    spared = _train(Sequential(*_layers(shared), checkpoint_every=every))
    for (name, a), b in zip(plain.state_dict().items(), spared.state_dict().values(), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b), err_msg=name)
    assert plain.random_state() == spared.random_state()
    with pytest.raises(StateError):
        spared.backward(backend.asarray(np.zeros((5, 3)), dtype="float32"))


def test_gradient_of_the_input():
    x, dy = (np.random.default_rng(0).normal(size=shape) for shape in ((5, 2, 6, 6), (5, 3)))
    results = []
    for every in (None, 2):
        model = Sequential(*_layers(), checkpoint_every=every)
        with backend.using("numpy", dtype="float64"):
            model.build((2, 6, 6), rng=3)
        model.forward(x)
        model.forward(x[:2])  # whose backward never comes
        model.drop_pending()
        results.append(model.backward(dy))
    np.testing.assert_array_equal(*results)


def test_layers_that_learn_nothing_are_not_computed_anew():
    calls = []

    class Counts(Layer):
        def _forward(self, x, train):
            calls.append(train)
            return x, None

        def _backward(self, dy, ctx, need_dx):
            return dy

    model = Sequential(Counts(), Counts(), Dense(2), Counts(), Dense(2), Dense(2), checkpoint_every=2).build((3,))
    model.forward(np.ones((2, 3), np.float32))
    model.backward(np.ones((2, 2), np.float32), need_dx=False)
    assert len(calls) == 4  # the one behind the first Dense twice


class Fails(Layer):
    """Refuses from the n-th forward on."""

    def __init__(self, n):
        super().__init__()
        self.left = n

    def _forward(self, x, train):
        self.left -= 1
        if self.left <= 0:
            raise OperationError("Fails", "on purpose")
        return x, None

    def _backward(self, dy, ctx, need_dx):
        return dy


@pytest.mark.parametrize("at, n", [(1, 1), (4, 1), (1, 2)])
def test_a_failure_leaves_statistics_and_masks_alone(at, n):
    """Whether it comes in the forward or, the second time, when backward computes anew."""
    layers = [Dense(3), BatchNorm(), Dropout(0.5), Dense(3)]
    layers.insert(at, Fails(n))
    model = Sequential(*layers, Dense(2), checkpoint_every=3).build((3,))
    x, dy = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    if n == 1:
        with pytest.raises(OperationError, match=f'layer "{at}"'):
            model.forward(x)
    else:
        model.forward(x)
        before = model.state_dict(), model.random_state()
        with pytest.raises(OperationError, match=f'layer "{at}"'):
            model.backward(dy)
        assert model.random_state() == before[1]
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[0][name], err_msg=name)
    model.forget()
    model[str(at)].left = 100
    model.forward(x)
    model.backward(dy)
    assert not any(layer._pending for _, layer in model.named_layers())


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_refused(every):
    with pytest.raises(ArgumentError, match="checkpoint_every must be a positive int"):
        Sequential(Dense(2), checkpoint_every=every)


def test_shown():
    assert repr(Sequential(Dense(2), checkpoint_every=3)).endswith("\n  checkpoint_every=3\n)")


def _deep(every):
    return Sequential(*(Dense(256, activation="tanh") for _ in range(16)), checkpoint_every=every).build((256,))


def test_less_memory_and_predicted():
    x = np.ones((4000, 256), np.float32)  # 4 MB each
    taken, kept = {}, {}
    for every in (None, 4):
        model = _deep(every)
        tracemalloc.start()
        model.backward(model.forward(x), need_dx=False)
        taken[every] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        kept[every] = 4000 * model.summary().kept_bytes
        total = model.summary().training_memory(4000)
        predicted = total.activations + total.scratch
        assert 0.85 < predicted / taken[every] < 1.15
    assert taken[4] < 0.6 * taken[None]
    assert kept[4] == (4 + 4) * x.nbytes  # four checkpoints, and the outputs of one segment
