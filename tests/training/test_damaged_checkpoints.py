"""Files that are no checkpoint, or a damaged one, must be refused with nothing changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.test_checkpoint import model, trainer, weights
from xpnet import backend
from xpnet.errors import WeightsError
from xpnet.io import save_weights
from xpnet.io.weights import read_arrays, write_arrays
from xpnet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from xpnet.optim import SGD, Adam
from xpnet.training import EarlyStopping, Trainer, load_checkpoint, save_checkpoint
from xpnet.training.checkpoint import _digest


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    with backend.using("numpy"):
        run = trainer()
        run.fit((rng.standard_normal((40, 4)).astype(np.float32), rng.integers(0, 3, 40)), epochs=1, verbose=False)
        return save_checkpoint(tmp_path_factory.mktemp("good") / "c.safetensors", run)


def snapshot(run: Trainer) -> tuple[Any, ...]:
    built = run.model.built
    return (
        built,
        run.optimizer.step,
        len(run.history),
        run.position.state_dict(),
        run.model.random_state(),
        {k: v.tobytes() for k, v in weights(run).items()} if built else None,
    )


def refused(path: Path, match: str, *runs: Trainer) -> None:
    """A wrong file says so and changes nothing, whether the model has been built or not."""
    built = trainer()
    built.model.build((4,), rng=1)
    for run in runs or (trainer(), built):
        before = snapshot(run)
        with pytest.raises(WeightsError, match=match) as caught:
            load_checkpoint(path, run)
        assert str(caught.value).startswith(str(path))
        assert str(caught.value).endswith("changed.")
        assert snapshot(run) == before


def changed(good: Path, tmp_path: Path, change) -> Path:
    """A copy whose description was tampered with, checksum and all."""
    arrays, content = read_arrays(good)
    assert content is not None
    arrays = change(content, arrays) or arrays
    content.pop("digest")
    content["digest"] = _digest(arrays, content)
    write_arrays(tmp_path / "bad.safetensors", arrays, content)
    return tmp_path / "bad.safetensors"


def test_missing_foreign_and_empty_files(tmp_path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")
    (tmp_path / "a.safetensors").write_bytes(b"")
    refused(tmp_path / "a.safetensors", "no safetensors file, or a damaged one")
    save_weights(model().build((4,)), tmp_path / "w.safetensors")
    refused(
        tmp_path / "w.safetensors", "no checkpoint of a run, but some other safetensors file; xpnet.io.load_weights"
    )


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated(good, tmp_path, keep) -> None:
    content = good.read_bytes()
    (tmp_path / "t.safetensors").write_bytes(content[: int(keep * len(content))])
    refused(tmp_path / "t.safetensors", "no safetensors file, or a damaged one")


def test_every_kind_of_flipped_bit(good, tmp_path, rng) -> None:
    content = good.read_bytes()
    for place in [*rng.integers(0, len(content), 40), len(content) - 1]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "f.safetensors").write_bytes(flipped)
        refused(tmp_path / "f.safetensors", ".")


def test_newer_format(good, tmp_path) -> None:
    path = changed(good, tmp_path, lambda content, arrays: content.update(format=2, version="9.0"))
    refused(path, "a checkpoint of format 2, written by xpnet '9.0'; this is .* install a newer one")


def test_another_model_or_optimizer(good) -> None:
    other = Trainer(Sequential(Dense(9), BatchNorm(), ReLU(), Dropout(0.3), Dense(3)), optimizer=Adam())
    refused(good, r"0\.W has shape \(4, 8\) but .* \(4, 9\)", other)
    refused(good, "saved by a run with the optimizer Adam, this one has SGD", trainer(optimizer=SGD()))
    refused(good, "Plateau: the state holds", trainer(schedule="plateau"))


HOSTILE: dict[str, Any] = {
    "no history": lambda c, a: c.pop("history") and None,
    "history of strings": lambda c, a: c.update(history={"epochs": ["x"], "interrupted": False, "stopped": None}),
    "loss a list": lambda c, a: c["history"]["epochs"][0].update(loss=[1]),
    "step negative": lambda c, a: c["optimizer"].update(step=-1),
    "step a string": lambda c, a: c["optimizer"].update(step="5"),
    "optimizer a list": lambda c, a: c.update(optimizer=[]),
    "position gone": lambda c, a: c.update(position=None),
    "batch huge": lambda c, a: c["position"].update(batch=2**70),
    "random of others": lambda c, a: c.update(random={"7.seed": 1}),
    "random negative": lambda c, a: c.update(random={"3.seed": -1, "3.step": 0}),
    "callbacks a number": lambda c, a: c.update(callbacks=5),
    "schedule a number": lambda c, a: c.update(schedule=5),
    "an array more": lambda c, a: a | {"model.9.W": np.zeros(3, np.float32)},
    "an array less": lambda c, a: {k: v for k, v in a.items() if k != "optimizer.m.0.W"},
    "an array of integers": lambda c, a: a | {"model.0.W": a["model.0.W"].astype(bool)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_descriptions_that_lie(good, tmp_path, name) -> None:
    refused(changed(good, tmp_path, HOSTILE[name]), ".", trainer(EarlyStopping("loss")))


def test_an_input_shape_that_lies_builds_nothing(good, tmp_path) -> None:
    for shape in ([2**40], [5], [-1], "4", [[4]], []):
        path = changed(good, tmp_path, lambda c, a, shape=shape: c.update(input_shape=shape))
        fresh = trainer()
        with pytest.raises(WeightsError, match="Nothing has been changed"):
            load_checkpoint(path, fresh)
        assert not fresh.model.built


def test_files_from_before_loss_scales(good, tmp_path) -> None:
    def strip(content: dict[str, Any], arrays: dict[str, Any]) -> None:
        del content["loss_scale"], content["position"]["skipped"]
        for epoch in content["history"]["epochs"]:
            del epoch["skipped_steps"]

    run = load_checkpoint(changed(good, tmp_path, strip), trainer(EarlyStopping("loss")))
    assert set(run.history["skipped_steps"]) == {0}


def test_deeply_nested_json(good, tmp_path) -> None:
    arrays, _ = read_arrays(good)
    from safetensors.numpy import save_file

    save_file(arrays, tmp_path / "n.safetensors", metadata={"xpnet": "[" * 100_000})
    refused(tmp_path / "n.safetensors", "damaged")


@settings(max_examples=40)
@given(
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4),
    key=st.sampled_from(
        ["optimizer", "schedule", "random", "position", "history", "callbacks", "input_shape", "loss_scale"]
    ),
)
def test_any_value_in_any_place(good, tmp_path, key, value) -> None:
    path = changed(good, tmp_path, lambda c, a: c.update({key: value}))
    run = trainer(EarlyStopping("loss"))
    run.model.build((4,), rng=1)
    before = snapshot(run)
    try:
        load_checkpoint(path, run)
    except WeightsError:
        assert snapshot(run) == before


def test_the_file_is_plain_safetensors_with_json(good) -> None:
    from safetensors import safe_open

    with safe_open(good, framework="numpy") as file:
        names, metadata = set(file.keys()), file.metadata()
    assert {"model.0.W", "optimizer.m.0.W", "model.1.running_mean"} <= names
    assert json.loads(metadata["xpnet"])["kind"] == "checkpoint"
