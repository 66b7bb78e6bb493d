"""Steps launched as CUDA graphs learn what ordinary steps learn; on a stand-in, since there is no GPU.

NumPy's own training is what they are compared to: weights, statistics and history after several epochs. The stand-in
(`tests/kernels/captured_cupy.py`) launches exactly what was recorded, in memory that is used again.
"""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import pytest

from tests.kernels.captured_cupy import Capturing, capturing
from tests.kernels.emulated_cupy import compiler, folder_of_kernels
from xpnet import backend, config
from xpnet.bench import WORKLOADS, subjects
from xpnet.data import Loader
from xpnet.errors import StateError
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPool2D,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    Observer,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
    observing,
)
from xpnet.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from xpnet.models import LeNet
from xpnet.optim import EMA, Adam, AdamW, DynamicLossScale, Momentum
from xpnet.schedules import Cosine
from xpnet.training import (
    Callback,
    CapturedGradients,
    PhaseTimes,
    Trainer,
    captured,
    load_checkpoint,
    save_checkpoint,
)
from xpnet.training.step import forward_backward

IMAGES = (2, 6, 6)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C++ compiler, or not Linux")
    return Capturing(folder_of_kernels(tmp_path_factory))


@pytest.fixture
def data(rng):
    """14 images: batches of four, and a last one of two."""
    return rng.standard_normal((14, *IMAGES)).astype(np.float32), rng.integers(0, 3, 14)


def small(*more: Layer, classes: int = 3) -> Sequential:
    return Sequential(Conv2D(4, 3, activation="relu"), *more, Pool2D(2), Flatten(), Dense(classes))


def small_resnet() -> Sequential:
    def block(filters: int, stride: int) -> Residual:
        body = [Conv2D(filters, 3, stride=stride, padding=1, bias=False), BatchNorm(), ReLU()]
        body += [Conv2D(filters, 3, padding=1, bias=False), BatchNorm(momentum=None)]
        shortcut = None if stride == 1 else Conv2D(filters, 1, stride=stride, bias=False)
        return Residual(Sequential(*body), shortcut) if shortcut else Residual(Sequential(*body))

    return Sequential(block(2, 1), block(4, 2), GlobalPool2D(), Dense(3))


def train(trainer: Trainer, data, epochs: int = 3) -> dict[str, np.ndarray]:
    """Train and return everything that was learnt or counted."""
    x, t = data
    trainer.fit(Loader(x, t, batch_size=4, seed=1, prefetch=0), epochs=epochs, verbose=False)
    return state(trainer)


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    arrays = {name: np.array(backend.to_numpy(a)) for name, a in trainer.model.state_dict().items()}
    numbers = trainer.model.random_state() | {"step": trainer.optimizer.step, "lr": trainer.optimizer.lr}
    return arrays | numbers | {f"loss {e.epoch}": e.loss for e in trainer.history.epochs}


def assert_equal(got, expected, rtol=1e-7, atol=1e-9):
    assert set(got) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=atol, err_msg=name)


def on_numpy(make, data, **settings):
    with backend.using("numpy", dtype="float64"):
        return train(make(**settings), data)


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

CASES = {
    "relu": lambda **more: Trainer(small(), optimizer=Momentum(lr=0.05), seed=1, **more),
    "dropout, adam, a rate for each update": lambda **more: Trainer(
        small(Dropout(0.3), Dropout(0.5)), optimizer=Adam(lr=0.01), schedule=Cosine(0.01, period=12, every="update"),
        seed=1, **more,
    ),
    "residual, running statistics": lambda **more: Trainer(
        small_resnet(), optimizer=Momentum(lr=0.05, weight_decay=1e-3), seed=1, **more
    ),
    "class weights, clipping": lambda **more: Trainer(
        small(), loss=SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 0.5], label_smoothing=0.1),
        optimizer=AdamW(lr=0.01, clip_norm=0.1), seed=1, **more,
    ),
    "groups, a stride": lambda **more: Trainer(
        Sequential(Conv2D(4, 3, groups=2, stride=2), Flatten(), Dense(3)), optimizer=Momentum(lr=0.05), seed=1, **more
    ),
    "depthwise": lambda **more: Trainer(
        Sequential(Conv2D(4, 3, groups=2, padding=1), Conv2D(4, 3, groups=4), Flatten(), Dense(3)),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "normalised samples": lambda **more: Trainer(
        Sequential(Conv2D(4, 3), GroupNorm(2), InstanceNorm(affine=True), Flatten(), LayerNorm(), Dense(3)),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "micro batches": lambda **more: Trainer(
        small(Dropout(0.3), BatchNorm()), optimizer=Momentum(lr=0.05), micro_batch=2, seed=1, **more
    ),
    "recomputed layers": lambda **more: Trainer(
        Sequential(Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(3), checkpoint_every=2),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "a loss scale": lambda **more: Trainer(
        small(), optimizer=Momentum(lr=0.05), loss_scale=DynamicLossScale(8.0, interval=2), seed=1, **more
    ),
}  # fmt: skip


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


def test_targets_of_two_axes(emulator, rng):
    data = rng.standard_normal((14, 5)).astype(np.float32), rng.integers(0, 2, (14, 3)).astype(np.float32)

    def make(**more):
        return Trainer(Sequential(Dense(4), ReLU(), Dense(3)), loss=BinaryCrossEntropy(), seed=1, **more)

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


# --- beside other things -------------------------------------------------------------------------


class Meddling(Callback):
    """Does to the model what callbacks and users do between steps."""

    def __init__(self) -> None:
        self.seen = 0

    def on_update(self, trainer):
        self.seen += 1
        if self.seen == 1:
            self.ema = EMA(trainer.model, decay=0.5)
        self.ema.update()
        if self.seen % 5 == 0:
            with self.ema.applied():
                trainer.evaluate((np.zeros((3, *IMAGES), np.float32), np.zeros(3, np.int64)))
        if self.seen == 8:
            trainer.model.load_state_dict(self.ema.weights())
            trainer.model.load_random_state(dict.fromkeys(trainer.model.random_state(), 5))
        if self.seen == 11:
            trainer.optimizer.momentum = 0.5


def test_between_steps_the_model_may_be_averaged_measured_and_loaded(emulator, data):
    def make(**more):
        model = small(BatchNorm(), Dropout(0.3))
        return Trainer(model, optimizer=Momentum(lr=0.05), callbacks=[Meddling()], seed=1, **more)

    expected = on_numpy(make, data)
    with capturing(emulator) as tape:
        assert_equal(train(make(cuda_graph=True), data), expected)
    assert (tape.recorded, tape.launched) == (2, 10)


class Changing(Callback):
    """Gives a layer or the loss another setting in mid-run."""

    def __init__(self, change) -> None:
        self.change, self.seen = change, 0

    def on_update(self, trainer):
        self.seen += 1
        if self.seen == 9:
            self.change(trainer)


CHANGES = {
    "rate": lambda trainer: setattr(trainer.model.children()["2"], "rate", 0.6),
    "momentum": lambda trainer: setattr(trainer.model.children()["1"], "momentum", 0.5),
    "loss": lambda trainer: setattr(trainer.loss, "label_smoothing", 0.2),
    "another loss": lambda trainer: setattr(trainer, "loss", SoftmaxCrossEntropy(label_smoothing=0.2)),
    "setting": lambda trainer: config.set(conv_workspace_gpu="2KB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_recorded_anew(emulator, data, change):
    def make(**more):
        model = small(BatchNorm(), Dropout(0.3))
        return Trainer(model, optimizer=Momentum(lr=0.05), callbacks=[Changing(CHANGES[change])], seed=1, **more)

    with config.using(conv_workspace_gpu="1MB"):
        expected = on_numpy(make, data)
    with config.using(conv_workspace_gpu="1MB"), capturing(emulator) as tape:
        assert_equal(train(make(cuda_graph=True), data), expected)
    assert tape.recorded == 3


def test_steps_that_are_looked_into_are_ordinary(emulator, data):
    class Looking(Observer):
        seen = 0

        def after_forward(self, layer, x, y):
            self.seen += 1
            return y

    expected = on_numpy(CASES["relu"], data)
    with capturing(emulator) as tape, observing(Looking()) as looking:
        assert_equal(train(CASES["relu"](cuda_graph=True), data), expected)
    assert looking.seen > 12
    with capturing(emulator), config.using(nan_guard=True):
        assert_equal(train(CASES["relu"](cuda_graph=True), data), expected)
    assert tape.recorded == 0


def test_the_benchmark_records_its_step(emulator, monkeypatch):
    monkeypatch.setattr(subjects, "_on_gpu", lambda: True)
    workload = WORKLOADS["lenet-64"]._replace(model=lambda: small(classes=10), input_shape=IMAGES, batch=2)
    with capturing(emulator, "float32") as tape:
        step = subjects.step_subject("xpnet graph", workload, "train")
        losses = [float(step()) for _ in range(4)]
    assert (tape.recorded, tape.launched) == (1, 3)
    assert losses == sorted(losses, reverse=True)


def test_phases(emulator, data):
    times = PhaseTimes()
    with capturing(emulator):
        trainer = Trainer(small(), callbacks=[times], cuda_graph=True)
        train(trainer, data)
    assert {"graph", "forward", "backward", "update"} <= set(times.seconds)


def test_a_run_that_is_resumed(emulator, data, tmp_path):
    """Ctrl-C's way out in mid-epoch, a checkpoint, and the rest by another trainer."""

    class Stop(Callback):
        def on_update(self, trainer):
            if trainer.optimizer.step == 6:
                trainer.stop("enough")

    make = CASES["dropout, adam, a rate for each update"]
    with capturing(emulator):
        expected = train(make(cuda_graph=True), data)
        first = make(cuda_graph=True, callbacks=[Stop()])
        train(first, data)
        assert first.optimizer.step == 6
        save_checkpoint(tmp_path / "run.safetensors", first)
        second = make(cuda_graph=True)
        second.model.build(IMAGES, rng=7)
        load_checkpoint(tmp_path / "run.safetensors", second)
        x, t = data
        second.fit(Loader(x, t, batch_size=4, seed=1, prefetch=0), until=3, verbose=False)
        assert_equal(state(second), expected)


def test_graphs_go_with_the_fit(emulator, data):
    with capturing(emulator) as tape:
        trainer = CASES["relu"](cuda_graph=True)
        train(trainer, data, epochs=2)
        assert not trainer.forward_backward._graphs
        assert not importlib.import_module("xpnet.kernels.cupy.graph")._leaving  # nor does anything hold their memory
        train(trainer, data, epochs=2)
    assert tape.recorded == 4


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
