"""Whole runs in float16 and bfloat16: they learn what float32 learns, count what they skip, and resume bit for bit."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from xpnet import backend, data
from xpnet.data import Loader
from xpnet.distributed import SingleCommunicator
from xpnet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import LeNet, SimpleConvNet, TinyConvNet
from xpnet.optim import Adam, DynamicLossScale, LossScale
from xpnet.training import Callback, Checkpoint, Trainer, evaluate, load_checkpoint, save_checkpoint
from xpnet.training.progress import epoch_line, skipped
from xpnet.training.step import forward_backward

HALVES = [("numpy", "float16"), ("torch", "float16"), ("torch", "bfloat16"), ("cupy", "float16"), ("cupy", "bfloat16")]


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return {upscale: data.digits(upscale=upscale) for upscale in (1, 2)}


def learn(library, dtype, model, dataset, *, samples, epochs, **more):
    """The trainer after some epochs on the first samples, with the same weights and order in every type."""
    with backend.using(library, dtype=dtype):
        loader = Loader(
            dataset.x_train[:samples], dataset.t_train[:samples], scale=dataset.scale, batch_size=32, seed=1
        )
        trainer = Trainer(model().build(dataset.input_shape, rng=0), optimizer=Adam(lr=0.003), **more)
        trainer.fit(loader, epochs=epochs, verbose=False)
    return trainer


@pytest.mark.parametrize("library, dtype", HALVES, ids="-".join)
def test_tiny_convnet_learns_as_in_float32(digits, needs_backend, library, dtype):
    """Loss of five epochs: within 0.5 % of float32's in float16, within 3 % in bfloat16."""
    needs_backend(library)
    wide, narrow = (
        learn(library, d, TinyConvNet, digits[1], samples=640, epochs=5).history for d in ("float32", dtype)
    )
    assert wide["loss"][-1] < 0.6 * wide["loss"][0]
    assert narrow["loss"] == pytest.approx(wide["loss"], rel=5e-3 if dtype == "float16" else 3e-2)
    assert narrow["skipped_steps"] == [0] * 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("model", [lambda: LeNet(activation="relu"), SimpleConvNet], ids=["LeNet", "SimpleConvNet"])
def test_larger_models_learn_as_in_float32(digits, model, dtype):
    """Loss of four epochs on torch, in which float32 falls to a fifth or less: within 10 % of it."""
    pytest.importorskip("torch")
    wide, narrow = (learn("torch", d, model, digits[2], samples=640, epochs=4).history for d in ("float32", dtype))
    assert wide["loss"][-1] < 0.2 * wide["loss"][0]
    assert narrow["loss"] == pytest.approx(wide["loss"], rel=0.1)


@pytest.mark.parametrize("library, dtype", HALVES, ids="-".join)
def test_the_default_scale_follows_the_float_type(needs_backend, library, dtype):
    needs_backend(library)
    for chosen, kind in ((dtype, DynamicLossScale if dtype == "float16" else type(None)), ("float32", type(None))):
        with backend.using(library, dtype=chosen):
            trainer = Trainer(Dense(2))
            assert trainer.loss_scale is None
            trainer.model.build((3,))
            assert type(trainer.loss_scale) is kind
            assert Trainer(trainer.model, loss_scale=None).loss_scale is None
            assert Trainer(trainer.model, loss_scale=128).loss_scale.value == 128.0
            assert type(Trainer(trainer.model, loss_scale="dynamic").loss_scale) is DynamicLossScale
    with pytest.raises(ValueError, match="loss_scale must be 'dynamic', a number, a LossScale or None, got 'static'"):
        Trainer(Dense(2), loss_scale="static")


def test_skipped_steps_are_counted_and_shown(digits):
    """The scale begins so high that the first steps overflow, then comes down by itself."""
    trainer = learn(
        "numpy", "float16", TinyConvNet, digits[1], samples=320, epochs=2, loss_scale=DynamicLossScale(2.0**26)
    )
    first, second = trainer.history["skipped_steps"]
    assert 0 < first < 10
    assert second <= 2
    assert trainer.optimizer.step == 20 - first - second
    assert trainer.loss_scale.value == 2.0 ** (26 - first - second)
    assert epoch_line(trainer.history.epochs[0], 2, None).endswith(skipped(first))
    assert skipped(1) == "1 step skipped"


@pytest.mark.parametrize("scale", [2.0**22, 2.0**40])  # of pieces, the first overflows only when it is divided at last
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_overflow_that_skips_a_step_is_no_warning(rng, micro_batch, several, scale):
    x, t = rng.standard_normal((8, 4)), rng.integers(0, 3, 8)
    with backend.using("numpy", dtype="float16"):
        trainer = Trainer(
            Dense(3).build((4,), rng=1),
            loss=SoftmaxCrossEntropy(class_weights=[2.0**-10] * 3),
            micro_batch=micro_batch,
            loss_scale=LossScale(scale),
            communicator=SingleCommunicator() if several else None,
        )
        assert trainer.fit((x, t), verbose=False)["skipped_steps"] == [1]


@pytest.mark.parametrize("library, dtype", HALVES, ids="-".join)
@pytest.mark.parametrize(
    "loss, micro_batch",
    [(SoftmaxCrossEntropy(ignore_index=-1), 1), (SoftmaxCrossEntropy(class_weights=[1e5, 1e5, 1e5]), 256)],
    ids=["ignoring", "weighted"],
)
def test_many_weights_add_up(rng, needs_backend, library, dtype, loss, micro_batch):
    """Of a thousand samples: a sum of ones in bfloat16 ends at 256, and one of weights may be beyond float16."""
    needs_backend(library)
    with backend.using(library, dtype=dtype):
        x = backend.asarray(rng.standard_normal((1100, 4)), dtype=dtype)
        t = backend.asarray(rng.integers(0, 3, 1100))
        whole, pieces = (Dense(3).build((4,), rng=5) for _ in range(2))
        expected, _ = forward_backward(whole, loss, x, t)
        value, _ = forward_backward(pieces, loss, x, t, micro_batch=micro_batch)
        assert float(value) == pytest.approx(float(expected), rel=1e-5)
        assert pieces.W.grad.dtype == whole.W.grad.dtype
        mine, other = (backend.to_numpy(model.W.grad).astype(np.float64) for model in (pieces, whole))
        np.testing.assert_allclose(mine, other, atol=0.1 * abs(other).max())  # gradients do add up in bfloat16
        for batch_size in (1, 300):
            measured = evaluate(whole, (x, t), loss=loss, batch_size=batch_size)
            assert measured.loss == pytest.approx(float(expected), rel=2e-3)


class Interrupted(Callback):
    def on_update(self, trainer):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_after_a_skipped_step_too(tmp_path, rng):
    with backend.using("numpy", dtype="float16"):
        callbacks = [Interrupted(), Checkpoint(tmp_path, best=None)]
        trainer = Trainer(Dense(3), batch_size=4, loss_scale=DynamicLossScale(2.0**40), callbacks=callbacks)
        trainer.fit((rng.standard_normal((8, 4)), rng.integers(0, 3, 8)), verbose=False)
        resumed = load_checkpoint(tmp_path / "last.safetensors", Trainer(Dense(3), loss_scale="dynamic"))
    assert (resumed.optimizer.step, resumed.position.batch, resumed.loss_scale.value) == (0, 1, 2.0**39)


class SaveAt(Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_update(self, trainer):
        if trainer.position.batch + 5 * len(trainer.history) == self.step:
            save_checkpoint(self.path, trainer)


@pytest.mark.parametrize("library, dtype", [*HALVES, ("array_api_strict", "float32")], ids="-".join)
@pytest.mark.parametrize("step", [1, 2, 5, 8])
def test_resuming_ends_bit_for_bit_where_the_whole_run_ends(tmp_path, rng, needs_backend, library, dtype, step):
    needs_backend(library)
    pytest.importorskip("safetensors")
    x, t = rng.standard_normal((70, 4)).astype(np.float32), rng.integers(0, 3, 70)

    def run(*callbacks):
        model = Sequential(Dense(8), BatchNorm(), ReLU(), Dropout(0.3), Dense(3))
        scale = DynamicLossScale(2.0**24, interval=3) if dtype != "bfloat16" else None
        return Trainer(model, optimizer=Adam(0.01, weight_decay=0.01), batch_size=16, loss_scale=scale,
                       callbacks=callbacks)  # fmt: skip

    with backend.using(library, dtype=dtype):
        whole = run(SaveAt(step, tmp_path / "c.safetensors"))
        whole.fit((x, t), until=3, verbose=False)
        resumed = load_checkpoint(tmp_path / "c.safetensors", run())
        resumed.fit((x, t), until=3, verbose=False)
    for mine, other in (
        (whole.model.state_dict(), resumed.model.state_dict()),
        (whole.optimizer.state_dict(), resumed.optimizer.state_dict()),
    ):
        assert mine.keys() == other.keys()
        assert all(np.array_equal(backend.to_numpy(a), backend.to_numpy(other[n])) for n, a in mine.items() if "." in n)
    for name in ("loss", "accuracy", "skipped_steps"):
        assert whole.history[name] == resumed.history[name]
    assert whole.optimizer.step == resumed.optimizer.step
    if dtype != "bfloat16":
        assert whole.loss_scale.state_dict() == resumed.loss_scale.state_dict()
    if dtype == "float16":
        assert sum(whole.history["skipped_steps"]) > 0


def test_a_checkpoint_goes_from_one_float_type_to_another(tmp_path, rng):
    pytest.importorskip("safetensors")
    x, t = rng.standard_normal((32, 4)).astype(np.float32), rng.integers(0, 3, 32)
    for first, second in (("float16", "float32"), ("float32", "float16")):
        with backend.using("numpy", dtype=first):
            run = Trainer(Dense(3), loss_scale=LossScale(64.0))
            run.fit((x, t), verbose=False)
            path = save_checkpoint(tmp_path / f"{first}.safetensors", run)
        with backend.using("numpy", dtype=second):
            resumed = load_checkpoint(path, Trainer(Dense(3)))
            resumed.fit((x, t), verbose=False)
        assert resumed.model.W.data.dtype == second
        assert len(resumed.history) == 2
