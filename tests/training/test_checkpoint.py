"""Checkpoints: exact resumption, other backends, and the callback that saves them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import backend
from xpnet.data import Loader
from xpnet.io import load_weights
from xpnet.io.weights import read_arrays
from xpnet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from xpnet.optim import SGD, Adam, Momentum
from xpnet.schedules import Cosine, Plateau
from xpnet.training import Callback, Checkpoint, EarlyStopping, Trainer, load_checkpoint, save_checkpoint
from xpnet.training.checkpoint import read_about

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")


def model() -> Sequential:
    return Sequential(Dense(8), BatchNorm(), ReLU(), Dropout(0.3), Dense(3))


def trainer(*callbacks: Callback, schedule: str = "cosine", **more: Any) -> Trainer:
    schedules = {
        "cosine": lambda: Cosine(0.02, period=30, every="update"),
        "plateau": lambda: Plateau(0.02, factor=0.5, patience=0, threshold=0.5),
    }
    options = {"optimizer": Adam(weight_decay=0.01), "batch_size": 16, "seed": 3} | more
    return Trainer(model(), schedule=schedules[schedule](), callbacks=callbacks, **options)


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    t = rng.integers(0, 3, 70)
    return (rng.standard_normal((70, 4)) + np.eye(4)[t]).astype(np.float32), t.astype(np.int64)


class SaveAt(Callback):
    """Saves once, after the given update."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_update(self, trainer: Trainer) -> None:
        if trainer.optimizer.step == self.step:
            save_checkpoint(self.path, trainer)


def weights(run: Trainer) -> dict[str, np.ndarray]:
    arrays = run.model.state_dict() | run.optimizer.state_dict()
    return {name: np.array(backend.to_numpy(a)) for name, a in arrays.items() if hasattr(a, "shape")}


def assert_same(a: Trainer, b: Trainer) -> None:
    mine, other = weights(a), weights(b)
    assert mine.keys() == other.keys()
    assert all(np.array_equal(mine[name], other[name]) for name in mine)
    for name in ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "lr"):
        assert a.history[name] == b.history[name]
    assert a.optimizer.step == b.optimizer.step
    assert a.optimizer.lr == b.optimizer.lr
    assert a.model.random_state() == b.model.random_state()


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize(
    "step", [1, 4, 5, 8, 14]
)  # 5 batches an epoch: first, last but one, last, within, last but one
def test_resuming_ends_bit_for_bit_where_the_whole_run_ends(xp, data, tmp_path, step, schedule) -> None:
    whole = trainer(SaveAt(step, tmp_path / "c.safetensors"), schedule=schedule)
    whole.fit(data, data, until=3, verbose=False)
    resumed = load_checkpoint(tmp_path / "c.safetensors", trainer(schedule=schedule))
    assert resumed.optimizer.step == step
    resumed.fit(data, data, until=3, verbose=False)
    assert_same(resumed, whole)


@pytest.mark.parametrize("make", [SGD, Momentum, Adam])
def test_a_loader_goes_on_in_mid_epoch_too(data, tmp_path, make) -> None:
    whole = trainer(SaveAt(7, tmp_path / "c.safetensors"), optimizer=make(lr=0.01))
    whole.fit(Loader(*data, batch_size=16, seed=9), until=2, verbose=False)
    resumed = load_checkpoint(tmp_path / "c.safetensors", trainer(optimizer=make(lr=0.01)))
    resumed.fit(Loader(*data, batch_size=16, seed=9), until=2, verbose=False)
    assert_same(resumed, whole)


def test_a_loader_of_validation_data_goes_on_too(data, tmp_path) -> None:
    """What it leaves out and how it augments is another in each epoch, and a schedule follows what was measured."""

    def run(trainer: Trainer) -> Trainer:
        held_out = Loader(*data, batch_size=40, seed=9, drop_last=True, augment=lambda x, t, rng: (x * rng.random(), t))
        trainer.fit(Loader(*data, batch_size=16), held_out, until=3, verbose=False)
        return trainer

    whole = run(trainer(SaveAt(7, tmp_path / "c.safetensors"), schedule="plateau"))
    assert_same(run(load_checkpoint(tmp_path / "c.safetensors", trainer(schedule="plateau"))), whole)


def test_saved_between_two_calls_of_fit(data, tmp_path) -> None:
    whole = trainer()
    loader = Loader(*data, batch_size=16, seed=9)
    whole.fit(loader, epochs=2, verbose=False)
    save_checkpoint(tmp_path / "c.safetensors", whole)
    whole.fit(loader, epochs=1, verbose=False)
    resumed = load_checkpoint(tmp_path / "c.safetensors", trainer())
    resumed.fit(Loader(*data, batch_size=16, seed=9), epochs=1, verbose=False)
    assert_same(resumed, whole)


def test_ctrl_c_and_fit_again_equal_an_uninterrupted_run(data) -> None:
    class Stop(Callback):
        def on_update(self, trainer: Trainer) -> None:
            if trainer.optimizer.step in (2, 7):
                trainer.stop("to look at something")

    whole, broken = trainer(), trainer(Stop())
    whole.fit(data, data, until=3, verbose=False)
    assert broken.fit(data, data, until=3, verbose=False).stopped == "to look at something"
    assert len(broken.history) == 0
    broken.fit(data, data, until=3, verbose=False)
    assert len(broken.history) == 1
    broken.fit(data, data, until=3, verbose=False)
    assert broken.history.stopped is None
    assert_same(broken, whole)


def test_other_data_begin_the_epoch_anew_and_say_so(data, tmp_path) -> None:
    trainer(SaveAt(3, tmp_path / "c.safetensors")).fit(data, until=1, verbose=False)
    resumed = load_checkpoint(tmp_path / "c.safetensors", trainer())
    fewer = data[0][:50], data[1][:50]
    with pytest.warns(UserWarning, match=r"broken off after 3 batches of .*70.* cannot be continued with .*50.* anew"):
        resumed.fit(fewer, until=1, verbose=False)
    assert resumed.optimizer.step == 3 + 4


def test_a_model_that_is_built_and_one_that_is_not(data, tmp_path) -> None:
    run = trainer()
    run.fit(data, epochs=1, verbose=False)
    path = save_checkpoint(tmp_path / "c.safetensors", run)
    built = trainer()
    built.model.build((4,), rng=99)
    assert_same(load_checkpoint(path, built), run)
    assert_same(load_checkpoint(path, trainer()), run)


def test_from_another_backend_and_float_type(xp, data, tmp_path) -> None:
    with backend.using("numpy", dtype="float64"):
        run = trainer()
        run.fit((data[0].astype(np.float64), data[1]), epochs=1, verbose=False)
        path = save_checkpoint(tmp_path / "c.safetensors", run)
    resumed = load_checkpoint(path, trainer())
    first = resumed.model.parameters()[0].data
    assert backend.array_namespace(first) is xp.xp
    assert "float32" in str(first.dtype)
    np.testing.assert_allclose(xp.to_numpy(first), run.model.parameters()[0].data, rtol=1e-6)
    assert resumed.fit(data, epochs=1, verbose=False)["epoch"] == [1, 2]


def test_callbacks_keep_their_state(data, tmp_path) -> None:
    def callbacks(folder: str) -> tuple[Callback, ...]:
        return EarlyStopping("loss", patience=2, restore_best=True), Checkpoint(tmp_path / folder, best="loss")

    def slow(folder: str) -> Trainer:
        return Trainer(model(), optimizer=SGD(lr=1e-12), batch_size=16, callbacks=callbacks(folder))

    whole, half, resumed = slow("whole"), slow("half"), slow("half")
    whole.fit(data, until=9, verbose=False)
    half.fit(data, until=2, verbose=False)
    load_checkpoint(tmp_path / "half" / "last.safetensors", resumed).fit(data, until=9, verbose=False)
    assert resumed.history.stopped == whole.history.stopped
    assert resumed.history["loss"] == whole.history["loss"]
    bests = [read_arrays(tmp_path / f / "best.safetensors")[0] for f in ("half", "whole")]
    assert all(np.array_equal(bests[0][name], bests[1][name]) for name in bests[1])
    # resumed where it had stopped, it has nothing left to do
    done = load_checkpoint(tmp_path / "half" / "last.safetensors", slow("half"))
    steps = done.optimizer.step
    assert done.fit(data, until=20, verbose=False).stopped == whole.history.stopped
    assert done.optimizer.step == steps


def test_what_is_noted_can_be_read_without_a_trainer(data, tmp_path) -> None:
    run = trainer()
    run.fit(data, epochs=1, verbose=False)
    path = save_checkpoint(tmp_path / "c.safetensors", run, about={"classes": ["a", "b", "c"]})
    about = read_about(path)
    assert about["about"] == {"classes": ["a", "b", "c"]}
    assert about["version"] == xpnet.__version__
    assert (about["model"], about["input_shape"], about["dtype"]) == ("Sequential", [4], "float32")
    assert about["history"]["epochs"][0]["loss"] == run.history["loss"][0]


def test_weights_can_be_read_from_a_checkpoint(data, tmp_path) -> None:
    run = trainer()
    run.fit(data, epochs=1, verbose=False)
    fresh = model().build((4,), rng=8)
    load_weights(fresh, save_checkpoint(tmp_path / "c.safetensors", run))
    for name, a in run.model.state_dict().items():
        assert np.array_equal(fresh.state_dict()[name], a)


def test_a_crash_while_writing_leaves_the_last_good_one(data, tmp_path, monkeypatch) -> None:
    run = trainer()
    run.fit(data, epochs=1, verbose=False)
    path = save_checkpoint(tmp_path / "c.safetensors", run)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    run.fit(data, epochs=1, verbose=False)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, run)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


# --- the callback ------------------------------------------------------------------------------------


def test_best_and_last(data, tmp_path) -> None:
    class Scripted(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any):
            return super().evaluate(*args, **kwargs)._replace(loss=[3.0, 1.0, 2.0][len(self.history)])

    run = Scripted(model(), batch_size=16, callbacks=[Checkpoint(tmp_path / "a" / "b")])
    run.fit(data, data, epochs=3, verbose=False)
    epochs = {p.name: len(read_about(p)["history"]["epochs"]) for p in (tmp_path / "a" / "b").iterdir()}
    assert epochs == {"best.safetensors": 2, "last.safetensors": 3}


def test_every_so_many_epochs_and_updates(data, tmp_path, monkeypatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(
        "xpnet.training.callbacks.saving.save_checkpoint", lambda p, t, about: saved.append(t.optimizer.step)
    )
    trainer(Checkpoint(tmp_path, every_epochs=2, best=None)).fit(data, epochs=3, verbose=False)
    assert saved == [10, 15]
    saved.clear()
    trainer(Checkpoint(tmp_path, every_epochs=9, every_updates=4, best=None)).fit(data, epochs=2, verbose=False)
    assert saved == [4, 8, 10]
    saved.clear()
    trainer(Checkpoint(tmp_path, every_seconds=1e-9, every_epochs=9, best=None)).fit(data, epochs=1, verbose=False)
    assert saved[:4] == [1, 2, 3, 4]


def test_a_run_that_fails_keeps_the_last_good_checkpoint(data, tmp_path) -> None:
    run = trainer(Checkpoint(tmp_path, best=None))
    run.fit(data, epochs=1, verbose=False)
    before = (tmp_path / "last.safetensors").read_bytes()
    poisoned = data[0].copy()
    poisoned[-20:] = np.nan
    with pytest.raises(ArithmeticError):
        run.fit((poisoned, data[1]), epochs=1, verbose=False)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_what_a_crash_left_is_removed(data, tmp_path) -> None:
    (tmp_path / ".last.safetensors.123-abcd.part").write_bytes(b"half")
    trainer(Checkpoint(tmp_path, best=None)).fit(data, epochs=1, verbose=False)
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_wrong_settings(data, tmp_path) -> None:
    with pytest.raises(ValueError, match="every_epochs must be a whole number, at least 1, got 0"):
        Checkpoint(tmp_path, every_epochs=0)
    with pytest.raises(ValueError, match="every_seconds must be above 0"):
        Checkpoint(tmp_path, every_seconds=0)
    with pytest.raises(
        ValueError, match=r"Checkpoint watches 'validation_loss', which is None in this run; pass valid"
    ):
        trainer(Checkpoint(tmp_path)).fit(data, epochs=1, verbose=False)
    with pytest.raises(ValueError, match=r"Checkpoint: an epoch has no 'f1'; it has epoch, loss, accuracy"):
        trainer(Checkpoint(tmp_path, best="f1")).fit(data, data, epochs=1, verbose=False)
    shutil.rmtree(tmp_path)
    tmp_path.write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        trainer(Checkpoint(tmp_path)).fit(data, data, epochs=1, verbose=False)
