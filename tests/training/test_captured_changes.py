"""Between steps that are launched as CUDA graphs: averages, other settings, observers, phases, a resumed run."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tests.kernels.captured_cupy import capturing
from tests.training.captured_runs import CASES, IMAGES, assert_equal, on_numpy, small, state, train
from xpnet import config
from xpnet.bench import WORKLOADS, subjects
from xpnet.data import Loader
from xpnet.layers import BatchNorm, Dropout, Observer, observing
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import EMA, Momentum
from xpnet.training import Callback, PhaseTimes, Trainer, load_checkpoint, save_checkpoint


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
