"""Weights files: from any backend to any other, refused when they do not fit, never half written."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import MissingDependencyError, StateError, WeightsError
from xpnet.io import load_weights, save_weights
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, ReLU, Sequential

safetensors = pytest.importorskip("safetensors.numpy")


def small_model(filters: int = 4) -> Sequential:
    return Sequential(Conv2D(filters, 3), BatchNorm(), ReLU(), Flatten(), Dense(3))


@pytest.fixture
def saved(tmp_path, rng):
    """A file written on NumPy, and the arrays in it."""
    with backend.using("numpy"):
        model = small_model().build((2, 6, 6), rng=1)
        model.forward(rng.standard_normal((8, 2, 6, 6)).astype(np.float32), train=True)  # running statistics
        path = save_weights(model, tmp_path / "weights.safetensors")
        return path, model.state_dict()


def same(model, state) -> bool:
    mine = {name: backend.to_numpy(a) for name, a in model.state_dict().items()}
    return mine.keys() == state.keys() and all(np.array_equal(mine[n], backend.to_numpy(state[n])) for n in state)


def test_a_numpy_file_loads_on_every_backend_bit_for_bit(xp, saved) -> None:
    path, state = saved
    model = small_model().build((2, 6, 6), rng=2)
    assert not same(model, state)
    load_weights(model, path)
    assert same(model, state)
    for p in model.parameters():
        xp.to_numpy(p.data)  # checks library and device


def test_a_file_of_every_backend_loads_on_numpy_bit_for_bit(xp, tmp_path) -> None:
    model = small_model().build((2, 6, 6), rng=2)
    path = save_weights(model, tmp_path / "w.safetensors")
    with backend.using("numpy"):
        other = small_model().build((2, 6, 6), rng=3)
        load_weights(other, str(path))
    assert same(other, model.state_dict())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such rights on Windows")
def test_a_file_that_may_not_be_read_is_not_called_missing(saved) -> None:
    path, _ = saved
    model = small_model().build((2, 6, 6))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(WeightsError, match=r"weights\.safetensors: permission denied; make the file readable"):
            load_weights(model, path)
    finally:
        os.seteuid(user)


def test_float_types_are_converted(saved, tmp_path) -> None:
    path, state = saved
    with backend.using("numpy", dtype="float64"):
        model = small_model().build((2, 6, 6))
        load_weights(model, path)
        assert model[0].W.data.dtype == np.float64
        assert np.array_equal(model[0].W.data, state["0.W"])
        save_weights(model, tmp_path / "double.safetensors")
    with backend.using("numpy", dtype="float16"):
        half = small_model().build((2, 6, 6))
        load_weights(half, tmp_path / "double.safetensors")
        assert half[0].W.data.dtype == np.float16
        assert np.allclose(half[0].W.data, state["0.W"], rtol=1e-3)


def test_bfloat16_is_written_as_float32(tmp_path) -> None:
    pytest.importorskip("torch")
    with backend.using("torch", dtype="bfloat16"):
        model = Dense(3).build((4,), rng=1)
        save_weights(model, tmp_path / "w.safetensors")
        other = Dense(3).build((4,), rng=2)
        load_weights(other, tmp_path / "w.safetensors")
    assert same(other, model.state_dict())


def test_the_file_is_plain_safetensors_and_says_what_it_is(saved) -> None:
    path, state = saved
    arrays = safetensors.load_file(path)
    assert arrays.keys() == state.keys()
    assert arrays["0.W"].dtype == np.float32
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["xpnet"])
    assert about["model"] == "Sequential"
    assert about["input_shape"] == [2, 6, 6]
    assert about["version"]


def test_equal_weights_give_equal_files(saved, tmp_path) -> None:
    path, state = saved
    with backend.using("numpy"):
        model = small_model().build((2, 6, 6), rng=9)
        model.load_state_dict(state)
        assert save_weights(model, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_damaged_and_foreign_files_leave_the_model_alone(saved, tmp_path, rng) -> None:
    path, _ = saved
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    bad = {
        "empty": b"",
        "text": b"these are no weights, this is a letter",
        "huge header": (2**62).to_bytes(8, "little") + b"{}",
        "broken json": content[:8] + b"x" * header + content[8 + header :],
        "random": rng.bytes(500),
    }
    bad |= {f"cut at {n}": content[:n] for n in (4, 8, 20, 8 + header, len(content) - 1)}
    bad["longer"] = content + b"\0"
    with backend.using("numpy"):
        model = small_model().build((2, 6, 6), rng=2)
        before = model.state_dict()
        for name, data in bad.items():
            target = tmp_path / "bad.safetensors"
            target.write_bytes(data)
            with pytest.raises(WeightsError, match=r"bad\.safetensors: .*The model has not been changed"):
                load_weights(model, target)
            assert same(model, before), name
        for missing in (tmp_path / "missing.safetensors", tmp_path):
            with pytest.raises(WeightsError, match="The model has not been changed"):
                load_weights(model, missing)


def test_weights_of_another_model_are_refused(saved) -> None:
    path, _ = saved
    with backend.using("numpy"):
        for model, message in (
            (small_model(5).build((2, 6, 6)), r"0\.W has shape \(4, 2, 3, 3\) but the model's has \(5, 2, 3, 3\)"),
            (
                Dense(3).build((4,)),
                r"missing W, b; not in the model 0\.W, 0\.b, 1\.beta, 1\.gamma, 1\.running_mean \.\.\.",
            ),
        ):
            before = model.state_dict()
            with pytest.raises(WeightsError, match=message):
                load_weights(model, path)
            assert same(model, before)


def test_a_model_that_is_not_built_has_nothing_to_save_or_load(saved, tmp_path) -> None:
    with pytest.raises(StateError, match=r"call model\.build\(input_shape\)"):
        save_weights(small_model(), tmp_path / "w.safetensors")
    with pytest.raises(StateError, match=r"call model\.build\(input_shape\)"):
        load_weights(small_model(), saved[0])


def test_a_failed_write_leaves_the_former_file_and_no_rubbish(saved, monkeypatch) -> None:
    path, _ = saved
    content = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with backend.using("numpy"), pytest.raises(OSError, match="disk full"):
        save_weights(small_model().build((2, 6, 6), rng=5), path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(MissingDependencyError, match=r"saving weights needs safetensors; pip install 'xpnet\[train\]'"):
        save_weights(Dense(2).build((3,)), tmp_path / "w.safetensors")
