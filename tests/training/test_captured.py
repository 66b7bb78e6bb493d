"""Steps launched as CUDA graphs learn what ordinary steps learn; on a stand-in, since there is no GPU.

NumPy's own training is what they are compared to: weights, statistics and history after several epochs. The stand-in
(`tests/kernels/captured_cupy.py`) launches exactly what was recorded, in memory that is used again.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tests.kernels.captured_cupy import capturing
from tests.training.captured_runs import CASES, IMAGES, assert_equal, on_numpy, small, train
from xpnet import backend
from xpnet.errors import StateError
from xpnet.layers import Dense, Dropout, Flatten, ReLU, Sequential
from xpnet.losses import BinaryCrossEntropy, Huber, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.models import LeNet
from xpnet.optim import Adam, DynamicLossScale, Momentum
from xpnet.training import CapturedGradients, Trainer, captured
from xpnet.training.step import forward_backward


class Waiting(Dense):
    """Looks at a value of its output."""

    def _forward(self, x, train):
        y, ctx = super()._forward(x, train)
        return (y * 2.0 if float(y[0, 0]) > 0.0 else y), ctx


class Uploading(Dense):
    def _forward(self, x, train):
        y, ctx = super()._forward(x, train)
        xp = backend.array_namespace(y)
        return y + xp.asarray(np.ones(3, np.float32)), ctx


class ByCuBLAS(Dense):
    def _forward(self, x, train):
        y, ctx = super()._forward(x, train)
        return y + 0.0 * (x @ self.W.data), ctx


class Counting(Dense):
    """Counts by itself, where a launch does not see it."""

    count = 0

    def _forward(self, x, train):
        self.count += 1
        return super()._forward(x, train)


class CountingMasks(Dense):
    """Looks at what should stay in memory."""

    random_names = ("step",)
    step = 0

    def _forward(self, x, train):
        self.step += 1
        y, ctx = super()._forward(x, train)
        return y * float(self.step), ctx


# --- what is learnt ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_as_ordinary_steps_do(emulator, data, case):
    """Three epochs of 4, 4, 4 and 2 images: of either shape the first batch is ordinary, all others are launches."""
    expected = on_numpy(CASES[case], data)
    with capturing(emulator) as tape:
        assert_equal(train(CASES[case](cuda_graph=True), data), expected)
    assert (tape.recorded, tape.launched) == (2, 12 - 2)


def test_lenet(emulator, rng):
    """With sigmoid, on MNIST's shape."""
    data = rng.standard_normal((8, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 8)

    def make(**more):
        return Trainer(LeNet(activation="sigmoid"), optimizer=Adam(lr=0.01), seed=1, **more)

    expected = on_numpy(make, data)
    with capturing(emulator) as tape:
        assert_equal(train(make(cuda_graph=True), data), expected)
    assert (tape.recorded, tape.launched) == (1, 5)


def test_float16(emulator, data):
    """Master weights and a loss scale that moves, and skips steps: the very same as without a graph."""
    results = []
    for cuda_graph in (False, True):
        with capturing(emulator, "float16") as tape:
            scale = DynamicLossScale(2.0**22, interval=3)
            trainer = Trainer(small(), optimizer=Adam(lr=0.01), loss_scale=scale, seed=1, cuda_graph=cuda_graph)
            results.append(train(trainer, data))
            assert scale.skipped > 0
            assert len({scale.value, 2.0**22, 1.0}) == 3
    assert tape.launched == 10
    assert_equal(results[1], results[0], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy, MeanSquaredError, Huber])
def test_targets_of_two_axes(emulator, loss, rng):
    data = rng.standard_normal((14, 5)).astype(np.float32), rng.integers(0, 2, (14, 3)).astype(np.float32)

    def make(**more):
        return Trainer(Sequential(Dense(4), ReLU(), Dense(3)), loss=loss(), seed=1, **more)

    expected = on_numpy(make, data)
    with capturing(emulator):
        assert_equal(train(make(cuda_graph=True), data), expected)


def test_many_micro_batches(emulator, rng):
    """More than CuPy joins without copying their addresses from the host."""
    x, t = rng.standard_normal((10, 5)), rng.integers(0, 3, 10)
    results = []
    for run, settings in ((forward_backward, {}), (CapturedGradients(), {"micro_batch": 1})):
        with capturing(emulator):
            model, loss = Sequential(Dense(3)).build((5,), rng=1), SoftmaxCrossEntropy()
            given = backend.asarray(x, dtype="float64"), backend.asarray(t)
            for _ in range(3):
                value, y = run(model, loss, *given, **settings)
            results.append([np.array(backend.to_numpy(a)) for a in (value, y, model.store.segments[0].grad)])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_only_so_many_shapes_are_recorded(emulator, rng):
    """The third shape is ordinary."""
    model, loss = small(), SoftmaxCrossEntropy()
    with capturing(emulator) as tape:
        model.build(IMAGES, rng=1)
        gradients = CapturedGradients()
        for n in (2, 3, 4) * 3:
            x = backend.asarray(rng.standard_normal((n, *IMAGES)))
            gradients(model, loss, x, backend.asarray(rng.integers(0, 3, n), dtype=None))
    assert (tape.recorded, tape.launched) == (2, 4)


# --- what would go wrong -------------------------------------------------------------------------


def broken_by(monkeypatch, emulator, data, case) -> bool:
    expected = on_numpy(CASES[case], data)
    with capturing(emulator):
        got = train(CASES[case](cuda_graph=True), data)
    return any(not np.allclose(got[name], value, rtol=1e-3, atol=1e-4) for name, value in expected.items())


def test_a_number_in_the_graph_would_be_noticed(monkeypatch, emulator, data):
    """Masks of a step that does not grow."""
    monkeypatch.setattr(captured._Graph, "_counts_in_memory", lambda self: contextlib.nullcontext())
    assert broken_by(monkeypatch, emulator, data, "dropout, adam, a rate for each update")


def test_a_loss_scale_in_the_graph_would_be_noticed(monkeypatch, emulator, data):
    step = captured._Graph.step

    def first_scale(self, x, t, scale, enter):
        self.first = getattr(self, "first", scale)
        return step(self, x, t, self.first, enter)

    monkeypatch.setattr(captured._Graph, "step", first_scale)
    assert broken_by(monkeypatch, emulator, data, "a loss scale")


def test_a_batch_that_stays_would_be_noticed(monkeypatch, emulator, data):
    give = captured._Graph._give

    def once(self, x, t, scale, counts):
        give(self, self.x if self.results else x, self.t if self.results else t, scale, counts)

    monkeypatch.setattr(captured._Graph, "_give", once)
    assert broken_by(monkeypatch, emulator, data, "relu")


def test_statistics_that_move_would_be_noticed(monkeypatch, emulator, data):
    monkeypatch.setattr(captured, "_write", lambda array, made: None)
    assert broken_by(monkeypatch, emulator, data, "residual, running statistics")


def test_memory_of_others_would_be_noticed(monkeypatch, emulator, data):
    """Recorded in the pool that everybody uses."""
    modules = emulator.modules

    def shared():
        made = modules()
        made["cupy"].cuda.using_allocator = lambda allocator: contextlib.nullcontext()
        return made

    monkeypatch.setattr(emulator, "modules", shared)
    assert broken_by(monkeypatch, emulator, data, "relu")


# --- refused -------------------------------------------------------------------------------------


def test_other_libraries(data):
    with backend.using("numpy"):
        for model in (small(), small().build(IMAGES)):
            with pytest.raises(ValueError, match="needs CuPy, but the model is of numpy; select it with XPNET_BACKEND"):
                Trainer(model, cuda_graph=True)
        with pytest.raises(ValueError, match="needs CuPy, but the model is of numpy"):
            CapturedGradients()(small().build(IMAGES), SoftmaxCrossEntropy(), *data)


def test_several_processes(emulator):
    with capturing(emulator), pytest.raises(ValueError, match="cuda_graph=True is for one process"):
        Trainer(small(), cuda_graph=True, communicator=object())


@pytest.mark.parametrize(
    "layer, message",
    [
        (Waiting, "cannot be recorded: waiting for a value during capture; leave cuda_graph out"),
        (Uploading, "cannot be recorded: copying from the host during capture"),
        (ByCuBLAS, "cannot be recorded: calling cuBLAS API during stream capture is currently unsupported"),
        (Counting, r"Counting\.count changes in each step, .* name whole numbers in random_names"),
        (CountingMasks, "cannot be recorded: waiting for a value"),
    ],
)
def test_a_step_that_cannot_be_recorded(emulator, data, layer, message):
    """The weights are those after the first step, and training without a graph goes on."""
    with capturing(emulator) as tape:
        trainer = Trainer(Sequential(Flatten(), Dropout(0.5), layer(3)), optimizer=Momentum(lr=0.05), cuda_graph=True)
        with pytest.raises(StateError, match=message):
            train(trainer, data)
        assert trainer.optimizer.step == 1
        assert trainer.model.random_state()["1.step"] == 1
        trainer._captured = None
        train(trainer, data, epochs=1)
    assert tape.launched == 0


def test_masks_that_are_drawn_again(emulator, data):
    model = Sequential(Flatten(), Dropout(0.5), Dense(3), checkpoint_every=2)
    with capturing(emulator), pytest.raises(StateError, match="draws random masks anew in backward"):
        train(Trainer(model, cuda_graph=True), data)
