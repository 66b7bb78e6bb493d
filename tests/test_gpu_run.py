"""scripts/test_gpu.sh where there is no GPU, and what it reads from the steps that need one."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import run_here
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


@pytest.fixture
def time_over_with(gpu_run, monkeypatch):
    """A function that has the time of a step be over as soon as there is a file, however fast the machine is."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    def end(step: str, file: Path) -> None:
        clock = Clock()
        limit = gpu_run.LIMITS[step]

        class Process(subprocess.Popen):
            def wait(self, timeout=None):
                if timeout != limit:
                    return super().wait(timeout)
                while not file.exists():
                    assert self.poll() is None, "it has ended by itself"
                    time.sleep(0.02)
                clock.now += limit
                raise subprocess.TimeoutExpired(self.args, timeout)

        monkeypatch.setattr(gpu_run, "time", clock)
        monkeypatch.setattr(subprocess, "Popen", Process)

    return end


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_step_that_takes_too_long_is_ended(gpu_run, time_over_with, monkeypatch, tmp_path):
    """And what it has started too; of the parts after it, none is begun."""
    started = tmp_path / "started"
    sleep = "import time; time.sleep(240)"
    stubborn = (
        "import pathlib, signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        f"child = subprocess.Popen([sys.executable, '-c', {sleep!r}]);"
        f"file = pathlib.Path({str(started)!r}); file.with_suffix('.part').write_text(str(child.pid));"
        "file.with_suffix('.part').rename(file); time.sleep(240)"
    )
    parts = {"first": [sys.executable, "-c", stubborn], "second": [sys.executable, "-c", sleep]}
    monkeypatch.setitem(gpu_run.PARTS, "benchmark", lambda *_: parts)
    monkeypatch.setattr(gpu_run, "GRACE", 0.1)
    time_over_with("benchmark", started)
    found = gpu_run.run("benchmark", [], True)
    assert found["status"] == "failed"
    assert found["reason"] == "first: not done in time; second: no time left; the benchmark left no result"
    child = int(started.read_text())
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "zombie" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("it still runs")


def test_tests_that_take_too_long_still_report(gpu_run, time_over_with, monkeypatch, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pathlib, time\n"
        "def test_gpu_a(): pass\n"
        "def test_gpu_b():\n"  # ends with the run, whose workers hear nothing of the interrupt
        "    while not pathlib.Path(__file__).with_name('interrupted').exists(): time.sleep(0.02)\n"
        "def test_c(): pass\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import os, pathlib, pytest\n"
        "here = pathlib.Path(__file__)\n"
        "@pytest.hookimpl(trylast=True)\n"  # when it is in the report too
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'teardown' and 'PYTEST_XDIST_WORKER' not in os.environ:\n"
        "        here.with_name('passed').touch()\n"
        "def pytest_keyboard_interrupt():\n"
        "    here.with_name('interrupted').touch()\n"
    )
    monkeypatch.setitem(gpu_run.NEEDS, "tests", ())
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-c {os.devnull} -p no:cacheprovider")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    time_over_with("tests", tmp_path / "passed")
    found = gpu_run.run("tests", [str(tmp_path)], False)
    assert found["status"] == "failed"
    assert found["reason"] == "gpu: not done in time; rest: no time left"
    assert found["passed"] == 1


def test_passes_skips_and_failures_are_counted(gpu_run, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): pytest.skip('because')\n"
        "def test_c(): assert 1 == 2\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_d(broken): pass\n"
        "def test_on_cupy(): pass\n"
    )
    parts = gpu_run.tests_parts(tmp_path, [str(tmp_path / "test_some.py")])
    assert list(parts) == ["gpu", "rest"]
    for command in parts.values():
        subprocess.run([*command, "-c", "/dev/null", "-n0"], cwd=tmp_path, capture_output=True, check=False)
    counts = gpu_run.read_tests(tmp_path)
    assert [counts[name] for name in ("passed", "failed", "skipped")] == [2, 2, 1]
    assert sorted(name.partition("::")[2] for name in counts["failures"]) == ["test_c", "test_d"]


def test_the_training_is_read_from_its_history(gpu_run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    python, script, *arguments = gpu_run.training_parts(tmp_path, [])["lenet"]
    assert python == sys.executable
    arguments = ["numpy" if word == "cupy" else word for word in arguments]
    tiny = ["--limit", "60", "--data", "digits:upscale=4", "--epochs", "1"]
    assert run_here(gpu_run.ROOT / script, *arguments, *tiny, cwd=tmp_path).returncode == 0
    found = gpu_run.read_training(tmp_path)
    assert 0.0 <= found["test_accuracy"] <= 1.0
    assert found["backend"] == "numpy"
    assert found["epochs_seconds"] >= 0.0  # rounded to tenths


def test_a_step_that_leaves_nothing_has_failed(gpu_run, tmp_path):
    for read in gpu_run.READERS.values():
        assert "left no" in read(tmp_path)["reason"]


def test_a_run_has_ten_minutes(gpu_run):
    assert sum(gpu_run.LIMITS.values()) + gpu_run.GRACE * len(gpu_run.LIMITS) < 590


def test_networks_are_measured_one_by_one(gpu_run, tmp_path):
    parts = gpu_run.benchmark_parts(tmp_path, [])
    assert list(parts)[:2] == ["lenet-64", "lenet-512"]
    broken = {"failed": {"torch graph": "ValueError: no"}}
    measured = {"lenet-64": {"train": {"flop": 1}}, "resnet20": {"train": broken}}
    for name, modes in measured.items():
        Path(parts[name][-1]).write_text(json.dumps({"about": {}, "peaks": {}, "workloads": {name: modes}}))
    found = gpu_run.read_benchmark(tmp_path)
    assert found["result"]["workloads"] == measured
    assert found["reason"] == "torch graph failed for resnet20"
