"""A run that is sent SIGTERM, by a scheduler for one, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launch import MPIEXEC, environment, needs_mpi
from tests.processes import started
from xpnet import config
from xpnet.cli import main
from xpnet.io.weights import read_arrays

for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
    pytest.importorskip(module, reason="runs need xpnet[train]")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to a child on Windows")

RUN = ["--model", "tiny_convnet", "--data", "digits", "--augment", "shift:1", "--batch-size", "8"]
COMMAND = [sys.executable, "-u", "-m", "xpnet", "train"]


def until_an_epoch(process: subprocess.Popen) -> str:
    """Read what a run says until its first epoch has ended."""
    assert process.stdout is not None
    lines, deadline = [], time.monotonic() + 120
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch") or time.monotonic() > deadline:
            break
    return "".join(lines)


def terminated(command: list[str], folder: Path) -> tuple[str, int]:
    """Start a run without an end, send it SIGTERM after an epoch, and return what it said and how many it had done."""
    with started([*command, *RUN, "--epochs", "100000", "--out", "broken"], cwd=folder, env=environment()) as process:
        said = until_an_epoch(process)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert errors == ""
    history = json.loads((folder / "broken" / "history.json").read_text())
    assert history["interrupted"] is True
    return said + rest, len(history["epochs"])


def test_a_terminated_run_is_saved_and_goes_on(tmp_path, monkeypatch) -> None:
    said, done = terminated(COMMAND, tmp_path)
    assert re.search(rf"^interrupted after {done} whole epochs; to go on: xpnet train --resume broken$", said, re.M)
    monkeypatch.chdir(tmp_path)
    with config.using(compiled="off"):  # as in `environment`
        assert main(["train", "--resume", "broken", "--epochs", str(done + 1)]) == 0
        assert main(["train", *RUN, "--epochs", str(done + 1), "--out", "whole"]) == 0
    broken, whole = (read_arrays(tmp_path / name / "last.safetensors")[0] for name in ("broken", "whole"))
    assert broken.keys() == whole.keys()
    assert all(np.array_equal(broken[name], whole[name]) for name in whole)
    losses = [
        [epoch["loss"] for epoch in json.loads((tmp_path / name / "history.json").read_text())["epochs"]]
        for name in ("broken", "whole")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == done + 1


def test_one_that_is_ended_among_its_results_says_how_to_have_them(tmp_path, monkeypatch, capsys) -> None:
    def ended(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["xpnet.run.train"], "plot_history", ended)
        assert main(["train", *RUN, "--epochs", "1", "--out", "a b"]) == 130
    error = capsys.readouterr().err
    assert error == "saved up to the last checkpoint; to go on: xpnet train --resume 'a b'\ninterrupted\n"
    assert main(["train", "--resume", "a b"]) == 0
    assert (tmp_path / "a b" / "curves.png").exists()


def test_a_run_that_ignores_sigterm_goes_on(tmp_path) -> None:
    """As what a shell runs after ``trap '' TERM``."""
    arguments = ["xpnet", "train", *RUN, "--epochs", "3", "--out", "a"]
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"import runpy, sys; sys.argv = {arguments!r}; runpy.run_module('xpnet', run_name='__main__')"
    )
    with started([sys.executable, "-u", "-c", deaf], cwd=tmp_path, env=environment()) as process:
        said = until_an_epoch(process)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "epoch 3/3" in said + rest


class TestRanks:
    pytestmark = needs_mpi

    def test_all_ranks_end_together(self, tmp_path, monkeypatch) -> None:
        assert MPIEXEC is not None
        said, done = terminated([MPIEXEC, "-n", "2", *COMMAND, "--distributed"], tmp_path)
        assert said.count("to go on: xpnet train --resume broken") == 1
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--resume", "broken", "--backend", "numpy", "--epochs", str(done + 1)]) == 0
