"""scripts/test_gpu.sh where there is no GPU, and what it reads from the steps that need one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet import backend

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def gpu_run():
    spec = importlib.util.spec_from_file_location("_gpu_run", SCRIPTS / "_gpu_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_without_a_gpu_it_says_why_and_ends_with_3(tmp_path):
    if next(s for s in backend.available() if s.name == "cupy").usable:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [SCRIPTS / "test_gpu.sh", "--steps", "benchmark", "training", "--json", tmp_path / "out.json"],
        env=os.environ | {"PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("no usable GPU: backend 'cupy' cannot be used: ")
    written = json.loads((tmp_path / "out.json").read_text())
    assert {name: step["status"] for name, step in written["steps"].items()} == {
        "benchmark": "left out",
        "training": "left out",
    }
    about = written["about"]
    assert about["gpu"] is None
    assert about["unusable"] in done.stderr
    assert about["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_what_is_missing_is_named(gpu_run, monkeypatch):
    monkeypatch.setitem(gpu_run.NEEDS, "training", ("numpy", "no_such_module"))
    found = gpu_run.run("training", [], True)
    assert found == {"status": "missing", "reason": "not installed: no_such_module"}


def test_a_step_that_takes_too_long_is_ended(gpu_run, monkeypatch):
    monkeypatch.setitem(gpu_run.COMMANDS, "benchmark", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setitem(gpu_run.LIMITS, "benchmark", 0.5)
    assert gpu_run.run("benchmark", [], True) == {"status": "failed", "reason": "still running after 0.5 s"}


def test_passes_skips_and_failures_are_counted(gpu_run, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): pytest.skip('because')\n"
        "def test_c(): assert 1 == 2\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_d(broken): pass\n"
    )
    command = gpu_run.tests_command(tmp_path, [str(tmp_path / "test_some.py")])
    command = command[: command.index("-n")] if "-n" in command else command
    subprocess.run([*command, "-c", "/dev/null", "-n0"], cwd=tmp_path, capture_output=True, check=False)
    counts = gpu_run.read_tests(tmp_path)
    assert [counts[name] for name in ("passed", "failed", "skipped")] == [1, 2, 1]
    assert sorted(name.partition("::")[2] for name in counts["failures"]) == ["test_c", "test_d"]


def test_the_training_is_read_from_its_history(gpu_run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    command = ["numpy" if word == "cupy" else word for word in gpu_run.training_command(tmp_path, [])]
    command += ["--limit", "60", "--data", "digits:upscale=4", "--epochs", "1"]
    subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, check=True)
    found = gpu_run.read_training(tmp_path)
    assert 0.0 <= found["test_accuracy"] <= 1.0
    assert found["backend"] == "numpy"
    assert found["epochs_seconds"] >= 0.0  # rounded to tenths


def test_a_step_that_leaves_nothing_has_failed(gpu_run, tmp_path):
    for read in gpu_run.READERS.values():
        assert "left no" in read(tmp_path)["reason"]


def test_a_run_has_ten_minutes(gpu_run):
    assert sum(gpu_run.LIMITS.values()) < 600
