"""The training loop: what it learns, what it records, what it shows, and how it stops."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading

import numpy as np
import pytest

from xpnet.data import Loader
from xpnet.errors import ArgumentError, NonFiniteError, OperationError
from xpnet.layers import Dense, Layer, Sequential
from xpnet.losses import MeanSquaredError
from xpnet.optim import SGD, Adam
from xpnet.training import Epoch, History, Trainer, evaluate, predict
from xpnet.training.progress import epoch_line
from xpnet.viz import plot_history


@pytest.fixture
def blobs(rng) -> tuple[np.ndarray, np.ndarray]:
    t = rng.integers(0, 3, 130)
    return (rng.standard_normal((130, 4)) + 3 * np.eye(4)[t]).astype(np.float32), t.astype(np.int64)


def test_fit_learns_and_records_every_epoch(xp, blobs) -> None:
    trainer = Trainer(Dense(3), optimizer=Adam(lr=0.05), batch_size=32)
    history = trainer.fit(blobs, blobs, epochs=6, verbose=False)
    assert history is trainer.history
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["validation_accuracy"][-1] > 0.9
    assert not history.interrupted
    assert all(e.seconds > 0 and e.images_per_second > 0 and e.lr == 0.05 for e in history.epochs)
    measured = trainer.evaluate(blobs)
    assert history["validation_loss"][-1] == pytest.approx(measured.loss)
    assert history["validation_accuracy"][-1] == measured.accuracy


def test_every_sample_is_seen_once_an_epoch_and_the_short_batch_counts(blobs) -> None:
    class Spy(Dense):
        def _forward(self, x, train):
            if train:
                seen.append(x)
            return super()._forward(x, train)

    seen: list[np.ndarray] = []
    Trainer(Spy(3), batch_size=32).fit(blobs, epochs=2, verbose=False)
    assert [len(x) for x in seen] == [32, 32, 32, 32, 2] * 2
    orders = [np.concatenate(seen[i : i + 5]) for i in (0, 5)]
    for order in orders:
        assert np.array_equal(np.unique(order, axis=0), np.unique(blobs[0], axis=0))
    assert not np.array_equal(*orders)


def test_the_recorded_loss_is_the_mean_over_samples(rng) -> None:
    x, t = rng.standard_normal((10, 2)).astype(np.float32), rng.standard_normal((10, 1)).astype(np.float32)
    model = Dense(1).build((2,), rng=0)
    expected = float(((x @ model.W.data - t) ** 2).mean())
    trainer = Trainer(model, loss=MeanSquaredError(), optimizer=SGD(lr=1e-12), batch_size=4)
    history = trainer.fit((x, t), epochs=1, verbose=False)
    assert history["loss"] == [pytest.approx(expected, rel=1e-5)]
    assert history["accuracy"] == [None]
    assert history["validation_loss"] == history["validation_accuracy"] == [None]


def test_two_calls_of_fit_equal_one(blobs) -> None:
    once, twice = (Trainer(Dense(3).build((4,), rng=1), optimizer=Adam(), seed=4) for _ in range(2))
    once.fit(blobs, epochs=4, verbose=False)
    twice.fit(blobs, epochs=1, verbose=False)
    twice.fit(blobs, epochs=3, verbose=False)
    assert np.array_equal(once.model.W.data, twice.model.W.data)
    assert once.history["loss"] == twice.history["loss"]
    assert twice.history["epoch"] == [1, 2, 3, 4]


def test_the_seed_decides_weights_and_order(blobs) -> None:
    def weights(seed: int) -> np.ndarray:
        trainer = Trainer(Dense(3), seed=seed, batch_size=32)
        trainer.fit(blobs, epochs=1, verbose=False)
        return trainer.model.W.data

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_names_loaders_and_validation_samples(blobs) -> None:
    trainer = Trainer(Sequential(Dense(3)), loss="softmax_cross_entropy", optimizer="momentum")
    loader = Loader(*blobs, batch_size=50, seed=3)
    history = trainer.fit(loader, blobs, epochs=1, validation_samples=10, verbose=False)
    first = trainer.evaluate((blobs[0][:10], blobs[1][:10]))
    assert history["validation_loss"] == [pytest.approx(first.loss)]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_wrong_batch_sizes_of_an_evaluation(xp, batch_size) -> None:
    model = Dense(3).build((4,))
    x, t = xp.asarray(np.zeros((8, 4), np.float32)), xp.asarray(np.zeros(8, np.int64))
    for measure in (
        lambda: evaluate(model, (x, t), batch_size=batch_size),
        lambda: predict(model, x, batch_size=batch_size),
    ):
        with pytest.raises(ArgumentError, match=rf"batch_size must be a positive int, got {batch_size}"):
            measure()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"loss": "l3"}, "no loss 'l3'; there are"), ({"optimizer": "adan"}, "no optimizer 'adan'; did you mean 'adam'")],
)
def test_unknown_names(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(Dense(3), **settings)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (None, {}, "Trainer: model must be a layer, such as a Sequential, got None"),
        (Dense(2), {"micro_batch": 0}, "Trainer: micro_batch must be a positive int, got 0"),
        (Dense(2), {"micro_batch": 2.5}, r"Trainer: micro_batch must be a positive int, got 2\.5"),
    ],
)
def test_unusable_settings(model, settings, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Trainer(model, **settings)


def test_data_that_are_no_pair(blobs) -> None:
    trainer, x = Trainer(Dense(2)), blobs[0]
    for data, found in ((x, "ndarray"), (x[:2], "ndarray"), ((x,), "tuple of 1"), (None, "NoneType")):
        with pytest.raises(
            ArgumentError, match=rf"Trainer\.fit: train must be a pair \(x, t\) .* or a Loader, got {found}$"
        ):
            trainer.fit(data)
    with pytest.raises(ArgumentError, match=r"Trainer\.fit: validation must be a pair \(x, t\) "):
        trainer.fit(blobs, x[:2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": lambda x, t: (x, t[:3])}, r"validation must be arrays of as many .*; got \d+ and 3$"),
        ({"validation": lambda x, t: (x[:0], t[:0])}, r"validation must be .* at least one; got 0 and 0$"),
        ({"validation": lambda x, t: (x.tolist(), t.tolist())}, r"validation must be arrays .*; got list and list$"),
        ({"validation_samples": -1}, "validation_samples must be a positive int, got -1"),
        ({"validation_samples": 1.5}, r"validation_samples must be a positive int, got 1\.5"),
    ],
)
def test_what_is_wrong_with_the_validation_is_said_before_an_epoch_is_learnt(blobs, settings, message) -> None:
    trainer = Trainer(Dense(3))
    more = {"validation": lambda x, t: (x, t)} | settings
    with pytest.raises(ArgumentError, match=message):
        trainer.fit(blobs, **more | {"validation": more["validation"](*blobs)}, verbose=False)
    assert trainer.optimizer.step == 0


def test_wrong_use(blobs) -> None:
    trainer = Trainer(Dense(2))
    with pytest.raises(ValueError, match="epochs must be a positive int, got 0"):
        trainer.fit(blobs, epochs=0)
    for settings in ({"epochs": 1.5}, {"until": 1.5}):
        with pytest.raises(ArgumentError, match=r"Trainer\.fit: (epochs|until) must be a positive int, got 1"):
            trainer.fit(blobs, **settings)
    with pytest.raises(OperationError, match=r"labels must be from 0 to 1 for 2 classes, got labels from 0 to 2"):
        trainer.fit(blobs, epochs=1, verbose=False)


def test_a_loss_that_is_nan_only_when_read_stops_the_epoch(blobs) -> None:
    class LazyLoss(MeanSquaredError):  # noqa: N818 (an error measured, not raised)
        """As on a GPU, where reading the loss would stall the step."""

        def _forward(self, y, t):
            loss, ctx = super()._forward(y, t)
            return loss * np.float32("nan"), ctx

    x = blobs[0]
    with pytest.raises(NonFiniteError, match=r"the loss of epoch 1/2 is nan; lower the learning rate \(now 0.5\)"):
        Trainer(Dense(4), loss=LazyLoss(), optimizer=SGD(lr=0.5)).fit((x, x), epochs=2, verbose=False)


def test_verbose_prints_a_line_an_epoch_and_no_bar_outside_a_terminal(blobs, capsys) -> None:
    Trainer(Dense(3)).fit(blobs, blobs, epochs=2)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert out.startswith("epoch 1/2  loss ")
    assert "images/s" in out
    assert err == ""
    Trainer(Dense(3)).fit(blobs, epochs=1, verbose=False)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(blobs, capsys, monkeypatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("xpnet.training.progress.INTERVAL", 0.0)
    Trainer(Dense(3), batch_size=10).fit(blobs, epochs=1)
    out, err = capsys.readouterr()
    assert "epoch 1/1" in err
    assert "accuracy" in err
    assert "images/s" in err
    assert len(out.splitlines()) == 1


class InterruptsItself(Dense):
    """Sends Ctrl-C to its own process at the given training forwards."""

    def __init__(self, units: int, *at: int) -> None:
        super().__init__(units)
        self.at, self.count = at, 0

    def _forward(self, x, train):
        if train:
            self.count += 1
            if self.count in self.at:
                os.kill(os.getpid(), signal.SIGINT)
        return super()._forward(x, train)


def test_ctrl_c_ends_after_the_step_and_keeps_the_weights(blobs) -> None:
    before = signal.getsignal(signal.SIGINT)
    stopped = InterruptsItself(3, 7)
    history = Trainer(stopped, batch_size=32).fit(blobs, epochs=9, verbose=False)
    assert history.interrupted
    assert history["epoch"] == [1]  # whole epochs only: five batches, then two of the next
    assert stopped.count == 7
    assert signal.getsignal(signal.SIGINT) is before
    assert not any(layer._pending for _, layer in stopped.named_layers())

    whole = InterruptsItself(3)
    trainer = Trainer(whole, batch_size=32)
    trainer.fit(blobs, epochs=1, verbose=False)
    loader = Loader(*blobs, batch_size=32)
    loader.epoch = 1
    from xpnet.training import train_step

    for (x, t), _ in zip(loader, range(2), strict=False):
        train_step(whole, trainer.loss, trainer.optimizer, x, t)
    assert np.array_equal(stopped.W.data, whole.W.data)


def test_ctrl_c_in_the_last_step_of_the_last_epoch_is_no_interruption(blobs) -> None:
    history = Trainer(InterruptsItself(3, 5), batch_size=32).fit(blobs, epochs=1, verbose=False)
    assert len(history) == 1
    assert not history.interrupted


def test_a_second_ctrl_c_raises_at_once(blobs) -> None:
    class Impatient(InterruptsItself):
        def _forward(self, x, train):
            os.kill(os.getpid(), signal.SIGINT)
            return super()._forward(x, train)

    model = Impatient(3, 1)
    with pytest.raises(KeyboardInterrupt):
        Trainer(model, batch_size=32).fit(blobs, epochs=1, verbose=False)
    assert not model._pending


def test_sigterm_is_left_to_the_program_which_may_stop_the_run(blobs) -> None:
    class Terminates(InterruptsItself):
        def _forward(self, x, train):
            if train and self.count == 6:
                signal.raise_signal(signal.SIGTERM)
            return super()._forward(x, train)

    trainer = Trainer(Terminates(3), batch_size=32)
    before = signal.signal(signal.SIGTERM, lambda number, frame: trainer.stop("SIGTERM"))
    try:
        history = trainer.fit(blobs, epochs=9, verbose=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (history.stopped, history.interrupted) == ("SIGTERM", False)
    assert trainer.model.count == 7
    assert trainer.fit(blobs, until=2, verbose=False)["epoch"] == [1, 2]  # on in mid-epoch
    assert trainer.model.count == 10


def test_in_another_thread_fit_works_without_signals(blobs) -> None:
    histories: list[History] = []
    thread = threading.Thread(target=lambda: histories.append(Trainer(Dense(3)).fit(blobs, epochs=1, verbose=False)))
    thread.start()
    thread.join()
    assert len(histories[0]) == 1


def test_ignored_ctrl_c_stays_ignored(blobs) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = Trainer(InterruptsItself(3, 1), batch_size=32).fit(blobs, epochs=2, verbose=False)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(history) == 2
    assert not history.interrupted


def test_history_is_saved_as_json(tmp_path) -> None:
    history = History([Epoch(1, 0.5, 0.8, None, None, 0.1, 2.0, 100.0)], interrupted=True)
    history.save(tmp_path / "history.json")
    assert json.loads((tmp_path / "history.json").read_text()) == {
        "epochs": [
            {
                "epoch": 1,
                "loss": 0.5,
                "accuracy": 0.8,
                "validation_loss": None,
                "validation_accuracy": None,
                "lr": 0.1,
                "seconds": 2.0,
                "images_per_second": 100.0,
                "validation_metrics": {},
                "skipped_steps": 0,
            }
        ],
        "interrupted": True,
        "stopped": None,
    }


def test_a_history_that_is_not_finite_is_saved_as_json_and_read_back(tmp_path) -> None:
    nan, inf = math.nan, math.inf
    History([Epoch(1, nan, None, inf, None, 0.1, 2.0, inf, {"a": nan})]).save(tmp_path / "history.json")

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    content = json.loads((tmp_path / "history.json").read_text(), parse_constant=refuse)
    (epoch,) = History.from_dict(content).epochs
    assert math.isnan(epoch.loss)
    assert math.isnan(epoch.images_per_second)
    assert (epoch.accuracy, epoch.validation_loss, epoch.validation_metrics) == (None, None, {"a": None})
    assert epoch.lr == 0.1


def test_what_else_is_to_be_noted_comes_first(tmp_path) -> None:
    History().save(tmp_path / "history.json", about={"command": "python train.py"})
    content = json.loads((tmp_path / "history.json").read_text())
    assert content == {"about": {"command": "python train.py"}, "epochs": [], "interrupted": False, "stopped": None}
    assert next(iter(content)) == "about"


def test_epoch_line_shows_the_change_and_leaves_out_what_is_not_there() -> None:
    first, second = (
        Epoch(9, 0.5, None, None, None, 0.1, 1.0, 10.0),
        Epoch(10, 0.75, None, None, None, 0.1, 1.0, 12345.0),
    )
    assert epoch_line(second, 10, first) == "epoch 10/10  loss 0.7500 (+0.2500)  1.0 s  12,345 images/s"
    assert epoch_line(first, 10, None) == "epoch  9/10  loss 0.5000  1.0 s  10 images/s"


def test_plot_history_draws_what_was_measured(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    history = History([Epoch(i, 1 / i, 1 - 0.5 / i, 2 / i, 0.5, 0.1, 1.0, 1.0) for i in (1, 2, 3)])
    figure = plot_history(history, title="a run")
    loss, accuracy = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[1, 1 / 2, 1 / 3], [2, 1, 2 / 3]]
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    from matplotlib.figure import Figure

    own = Figure()
    axes = [own.add_subplot(2, 1, 1), own.add_subplot(2, 1, 2)]
    assert plot_history(history, ax=axes) is own
    with pytest.raises(ValueError, match="2 axes needed, one each for loss and accuracy; got 1"):
        plot_history(history, ax=axes[:1])
    with pytest.raises(ValueError, match="holds no epoch yet"):
        plot_history(History())


def test_a_user_layer_without_parameters_trains_nothing_but_runs(blobs) -> None:
    class Half(Layer):
        def _forward(self, x, train):
            return x * 0.5, None

        def _backward(self, dy, ctx, need_dx):
            return dy * 0.5 if need_dx else None

    history = Trainer(Sequential(Half(), Dense(3), Half())).fit(blobs, epochs=1, verbose=False)
    assert len(history) == 1
