"""Callbacks: what they are told and when, what they write, and how they end a run."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.errors import ArgumentError, MissingDependencyError, NonFiniteError
from xpnet.layers import Dense
from xpnet.optim import SGD
from xpnet.training import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    JSONLinesLog,
    Metric,
    PhaseTimes,
    TensorBoard,
    Trainer,
)


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    t = rng.integers(0, 3, 50)
    return (rng.standard_normal((50, 4)) + np.eye(4)[t]).astype(np.float32), t.astype(np.int64)


class Recorder(Callback):
    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self.name, self.calls = name, calls

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.calls.append((self.name, "begin", trainer.model.built))

    def on_update(self, trainer: Trainer) -> None:
        self.calls.append((self.name, "update", trainer.optimizer.step))

    def on_epoch(self, trainer: Trainer, epoch: Any) -> None:
        self.calls.append((self.name, "epoch", epoch.epoch, trainer.history.epochs[-1] is epoch, trainer.ending))

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        self.calls.append((self.name, "end", error))


def test_what_they_are_told_and_in_which_order(data) -> None:
    calls: list[tuple[Any, ...]] = []
    trainer = Trainer(Dense(3), batch_size=25, callbacks=[Recorder("a", calls), Recorder("b", calls)])
    trainer.fit(data, epochs=2, verbose=False)
    assert [c for c in calls if c[0] == "a"] == [
        ("a", "begin", True),
        ("a", "update", 1),
        ("a", "update", 2),
        ("a", "epoch", 1, True, False),
        ("a", "update", 3),
        ("a", "update", 4),
        ("a", "epoch", 2, True, True),
        ("a", "end", None),
    ]
    assert [c[0] for c in calls] == ["a", "b"] * 7 + ["b", "a"]


def test_the_end_comes_with_the_error(data) -> None:
    calls: list[tuple[Any, ...]] = []
    trainer = Trainer(Dense(3), callbacks=[Recorder("a", calls)])
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit((data[0] * np.nan, data[1]), epochs=9, verbose=False)
    assert calls[-1] == ("a", "end", caught.value)


def test_checkpoint_comes_last(data, tmp_path) -> None:
    stopping = EarlyStopping("loss")
    trainer = Trainer(Dense(3), callbacks=[Checkpoint(tmp_path), stopping])
    assert trainer.callbacks[0] is stopping


def test_stop_ends_after_the_step(data) -> None:
    class After3(Callback):
        def on_update(self, trainer: Trainer) -> None:
            if trainer.optimizer.step == 3:
                trainer.stop("enough")

    trainer = Trainer(Dense(3), batch_size=25, callbacks=[After3()])
    history = trainer.fit(data, epochs=5, verbose=False)
    assert trainer.optimizer.step == 3
    assert (len(history), history.stopped, history.interrupted) == (1, "enough", False)


class Scripted(Trainer):
    """Measures what it is told to."""

    def __init__(self, losses: list[float], *callbacks: Callback) -> None:
        super().__init__(Dense(3), callbacks=callbacks)
        self.losses, self.seen = losses, [np.empty(0)]

    def evaluate(self, *args: Any, **kwargs: Any):
        measured = super().evaluate(*args, **kwargs)
        self.seen.append(self.model.W.data.copy())
        return measured._replace(loss=self.losses[len(self.history)])


@pytest.mark.parametrize(
    ("losses", "settings", "epochs"),
    [
        ([3, 2, 1, 1, 1, 1, 1], {"patience": 2}, 6),  # equal is not better
        ([3, 2, 1, 1, 1, 0.5, 1, 1, 1, 0], {"patience": 2}, 9),  # an improvement begins the count anew
        ([3, 2, 1], {"patience": 0}, 3),
        ([3, 4, 1], {"patience": 0}, 2),
        ([3, 2.9, 2.8, 2.7], {"patience": 1, "min_delta": 0.5}, 3),
        ([float("nan"), 2, 1], {"patience": 0}, 1),
    ],
)
def test_early_stopping(data, losses, settings, epochs) -> None:
    trainer = Scripted(losses, EarlyStopping(**settings))
    history = trainer.fit(data, data, epochs=len(losses), verbose=False)
    assert len(history) == epochs
    assert (history.stopped is not None) == (epochs < len(losses) or settings["patience"] == 2 or epochs == 1)


def test_early_stopping_gives_the_best_weights_back(data) -> None:
    losses = [3.0, 1.0, 2.0, 2.0]
    kept = Scripted(losses, EarlyStopping(patience=1))
    kept.fit(data, data, epochs=9, verbose=False)
    assert np.array_equal(kept.model.W.data, kept.seen[4])
    best = Scripted(losses, EarlyStopping(patience=1, restore_best=True))
    best.fit(data, data, epochs=9, verbose=False)
    assert np.array_equal(best.model.W.data, best.seen[2])
    assert not np.array_equal(best.model.W.data, kept.model.W.data)


class StopWithin(Callback):
    """Stops the run within an epoch, as a limit of time would."""

    def __init__(self, update: int) -> None:
        self.update, self.seen = update, 0

    def on_update(self, trainer: Trainer) -> None:
        self.seen += 1
        if self.seen == self.update:
            trainer.stop("that is enough")


@pytest.mark.parametrize("first", [True, False])
def test_a_stop_within_an_epoch_gives_the_best_weights_back(data, first) -> None:
    updates = -(-len(data[1]) // 10)
    early, limit = EarlyStopping(patience=9, restore_best=True), StopWithin(2 * updates + 2)
    trainer = Scripted([1.0, 2.0, 3.0], *((early, limit) if first else (limit, early)))
    trainer.batch_size = 10
    history = trainer.fit(data, data, epochs=9, verbose=False)
    assert (len(history), history.stopped) == (2, "that is enough")
    assert np.array_equal(trainer.model.W.data, trainer.seen[1])
    trainer.fit(data, data, epochs=1, verbose=False)
    assert limit.seen == 3 * updates + 2  # the third epoch whole, since it had been learnt from other weights


def test_early_stopping_watches_metrics(data) -> None:
    trainer = Trainer(
        Dense(3), optimizer=SGD(lr=1e-12), metrics=["top2"], callbacks=[EarlyStopping("top2", patience=1)]
    )
    assert trainer.fit(data, data, epochs=9, verbose=False).stopped == "no better top2 for 2 epochs"
    trainer = Trainer(Dense(3), metrics=["confusion_matrix"], callbacks=[EarlyStopping("confusion_matrix")])
    with pytest.raises(ValueError, match=r"EarlyStopping watches 'confusion_matrix', which is .*; watch a number"):
        trainer.fit(data, data, epochs=9, verbose=False)


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="patience must be a whole number, at least 0, got -1"):
        EarlyStopping(patience=-1)
    with pytest.raises(ValueError, match="min_delta must be finite and at least 0, got nan"):
        EarlyStopping(min_delta=float("nan"))


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([EarlyStopping], r"Trainer: callbacks holds the class EarlyStopping; make a callback of it: EarlyStopping\("),
        ([None], r"Trainer: callbacks holds None; expected a Callback, such as EarlyStopping\(\)"),
        (EarlyStopping(), "Trainer: callbacks must be a list of callbacks, got .*; put it in brackets"),
        (None, "Trainer: callbacks must be a list of callbacks, got None"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Trainer(Dense(3), callbacks=callbacks)


def test_csv_and_json_lines(data, tmp_path) -> None:
    logs = CSVLog(tmp_path / "new" / "log.csv"), JSONLinesLog(tmp_path / "new" / "log.jsonl")
    trainer = Trainer(Dense(3), metrics=["top2", "confusion_matrix"], callbacks=logs)
    trainer.fit(data, data, epochs=2, verbose=False)
    trainer.fit(data, data, epochs=1, verbose=False)  # a line for each epoch, none twice
    with open(logs[0].path, newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in logs[1].path.read_text().splitlines()]
    assert len(rows) == len(lines) == 3
    for epoch, row, line in zip(trainer.history.epochs, rows, lines, strict=True):
        assert int(row["epoch"]) == line["epoch"] == epoch.epoch
        assert float(row["loss"]) == line["loss"] == epoch.loss
        assert float(row["top2"]) == line["validation_metrics"]["top2"] == epoch.validation_metrics["top2"]
        assert np.sum(line["validation_metrics"]["confusion_matrix"]) == 50
    assert "confusion_matrix" not in rows[0]
    assert trainer.history["top2"] == [float(row["top2"]) for row in rows]


class Ratio(Metric):
    """One that has nothing to divide by."""

    name = "ratio"

    def reset(self) -> None: ...

    def update(self, y: Any, t: Any) -> None: ...

    def result(self) -> list[float]:
        return [float("nan"), 0.5]


def no_constants(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def test_json_lines_have_null_for_what_is_not_finite(data, tmp_path) -> None:
    trainer = Scripted([float("nan"), float("inf")], JSONLinesLog(tmp_path / "log.jsonl"))
    trainer.metrics = {"ratio": Ratio()}
    trainer.fit(data, data, epochs=2, verbose=False)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    for line in (json.loads(line, parse_constant=no_constants) for line in lines):
        assert line["validation_loss"] is None
        assert line["validation_metrics"] == {"ratio": [None, 0.5]}
        assert line["loss"] > 0


def test_a_missing_validation_is_an_empty_cell(data, tmp_path) -> None:
    Trainer(Dense(3), callbacks=[CSVLog(tmp_path / "log.csv")]).fit(data, epochs=1, verbose=False)
    with open(tmp_path / "log.csv", newline="") as file:
        assert next(csv.DictReader(file))["validation_loss"] == ""


def test_tensorboard(data, tmp_path) -> None:
    pytest.importorskip("tensorboardX", reason="the writer of TensorBoard files")
    from tensorboardX.proto import event_pb2

    trainer = Trainer(Dense(3), callbacks=[TensorBoard(tmp_path)])
    trainer.fit(data, data, epochs=2, verbose=False)
    (path,) = Path(tmp_path).iterdir()
    content, found = path.read_bytes(), []
    while content:  # records of TFRecord: length (8 bytes), its checksum (4), the event, its checksum (4)
        size = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + size :]
    values = {(step, tag): value for step, tag, value in found}
    for epoch in trainer.history.epochs:
        assert values[epoch.epoch, "loss"] == pytest.approx(epoch.loss)
        assert values[epoch.epoch, "accuracy/validation"] == pytest.approx(epoch.validation_accuracy)
    assert {tag for _, tag in values} >= {"loss/validation", "lr", "images_per_second"}


def test_tensorboard_without_a_writer(tmp_path, monkeypatch) -> None:
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'xpnet\[tensorboard\]'"):
        TensorBoard(tmp_path)


class Sleeper(Callback):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_update(self, trainer: Trainer) -> None:
        time.sleep(self.seconds)


@pytest.mark.parametrize("synchronize", [False, True])
def test_phase_times(xp, data, synchronize) -> None:
    times = PhaseTimes(synchronize=synchronize)
    assert times.table() == "no phase timed yet"
    trainer = Trainer(Dense(3), batch_size=25, callbacks=[times, Sleeper(0.002)])
    start = time.perf_counter()
    trainer.fit(data, data, epochs=3, verbose=False)
    wall = time.perf_counter() - start
    assert set(times.seconds) == {"data", "forward", "loss", "backward", "update", "validation", "callbacks"}
    assert all(seconds > 0 for seconds in times.seconds.values())
    assert sum(times.seconds.values()) <= wall  # nothing is counted twice
    assert times.seconds["callbacks"] >= 6 * 0.002
    table = times.table().splitlines()
    assert len(table) == 8
    shares = [float(line.split()[-1].rstrip("%")) for line in table[1:]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=1)
