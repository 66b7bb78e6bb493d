"""The scripts, run as a user runs them: tiny, with wrong arguments, without a GPU, and with Ctrl-C."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.processes import SCRIPTS, alone, interrupt, run_script, run_script_here, started

NAMES = sorted(p.name for p in SCRIPTS.glob("train*.py"))

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
load_file = pytest.importorskip("safetensors.numpy", reason="checkpoints are safetensors files").load_file


def test_the_scripts_are_there() -> None:
    assert NAMES == ["train_deep_convnet.py", "train_digits.py", "train_lenet.py", "train_simple_convnet.py"]


@pytest.mark.parametrize("name", NAMES)
def test_help_names_the_common_arguments(tmp_path: Path, name: str) -> None:
    result = run_script_here(tmp_path, name, "--help")
    assert result.returncode == 0
    for argument in ("--backend", "--epochs", "--limit", "--seed", "--out", "--lr", "--optimizer", "--batch-size"):
        assert argument in result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_run_trains_and_leaves_its_results(tmp_path: Path, name: str) -> None:
    result = run_script_here(tmp_path, name, "--epochs", "2", "--limit", "100", "--out", "out", "--backend", "numpy")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(r"^epoch 2/2  loss \d", result.stdout, re.M)
    accuracy = re.search(r"^test accuracy ([\d.]+)", result.stdout, re.M)
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert accuracy is not None
    assert float(accuracy[1]) == pytest.approx(history["epochs"][-1]["validation_accuracy"], abs=1e-4)
    assert [e["epoch"] for e in history["epochs"]] == [1, 2]
    about = history["about"]
    assert about["command"] == f"python scripts/{name} --epochs 2 --limit 100 --out out --backend numpy"
    assert about["test_accuracy"] == pytest.approx(float(accuracy[1]), abs=1e-4)
    assert about["backend"] == "numpy"
    assert (tmp_path / "out" / "last.safetensors").stat().st_size > 1000
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_digits_reach_the_accuracy_of_the_recipe(tmp_path: Path) -> None:
    result = run_script(tmp_path, "train_digits.py")
    accuracy = re.search(r"^test accuracy ([\d.]+)", result.stdout, re.M)
    assert accuracy is not None, result.stderr
    assert float(accuracy[1]) >= 0.925


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    arguments = ("train_digits.py", "--epochs", "1", "--limit", "128", "--backend", "numpy")
    for how, out, seed in ((run_script, "a", "5"), (run_script_here, "b", "5"), (run_script_here, "c", "6")):
        result = how(tmp_path, *arguments, "--seed", seed, "--out", out)
        assert result.returncode == 0, result.stderr
    a, b, c = (load_file(tmp_path / out / "last.safetensors") for out in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["model.conv.W"], c["model.conv.W"])


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_cupy_without_a_gpu_says_what_to_install(tmp_path: Path, how: str) -> None:
    from xpnet import backend

    if any(status.name == "cupy" and status.usable for status in backend.available()):
        pytest.skip("there is a usable GPU")
    if how == "environment":
        result = run_script_here(tmp_path, "train_lenet.py", XPNET_BACKEND="cupy")
    else:
        result = run_script_here(tmp_path, "train_lenet.py", "--backend", "cupy")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: backend 'cupy' cannot be used: ")
    assert "XPNET_BACKEND=numpy" in result.stderr or "pip install 'xpnet[cuda13]'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--backend", "nympy"],
            "no backend 'nympy'; did you mean 'numpy'? There are auto, numpy, cupy, torch, array_api_strict",
        ),
        (["--optimizer", "adan"], "no optimizer 'adan'; did you mean 'adam'? There are sgd,"),
        (["--lr", "-1"], "settings: lr must be above 0"),
        (["--epochs", "0"], "settings: epochs must be above 0, got 0"),
        (["--limit", "x"], "argument --limit: invalid int value: 'x'"),
        (["--dtype", "float8"], "argument --dtype: invalid choice: 'float8'"),
    ],
)
def test_a_wrong_argument_ends_in_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run_script_here(tmp_path, "train_digits.py", *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("kill_ranks.py", ["--ranks", "1"], "--ranks: must be at least 2, since the others name the one that dies"),
        ("kill_ranks.py", ["--kills", "0"], "--kills: must be at least 1, got 0"),
        ("scaling.py", ["--ranks", "1", "--batch-size", "1"], "--batch-size: must be at least 4, since half and a"),
    ],
)
def test_ranks_and_batches_must_be_enough(tmp_path: Path, name: str, arguments: list[str], message: str) -> None:
    result = run_script_here(tmp_path, name, *arguments)
    assert result.returncode == 2
    assert f"error: argument {message}" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_mnist_offline_says_where_it_looked(tmp_path: Path) -> None:
    result = run_script_here(tmp_path, "train_lenet.py", "--data", "mnist", XPNET_DATA=str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "nowhere") in result.stderr
    assert "XPNET_DATA" in result.stderr


def test_a_diverging_run_ends_with_advice(tmp_path: Path) -> None:
    result = run_script(tmp_path, "train_digits.py", "--lr", "1e30", "--backend", "numpy")
    assert result.returncode == 1
    assert "lower the learning rate" in result.stderr
    assert result.stderr.count("\n") == 1  # no warnings of NumPy's


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_ctrl_c_keeps_what_was_learnt(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train_digits.py"), "--epochs", "100000", "--out", "out"]
    lines = []
    with started(command, cwd=tmp_path, env=alone(tmp_path)) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch") or time.monotonic() > deadline:
                break
        rest, errors = interrupt(process)
    output = "".join(lines) + rest
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "to go on: xpnet train --resume out" in output
    assert json.loads((tmp_path / "out" / "history.json").read_text())["interrupted"] is True
    assert (tmp_path / "out" / "last.safetensors").exists()
