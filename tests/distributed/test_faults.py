"""A rank that fails or dies ends all of them within seconds, is named, and costs no more than the last checkpoint."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed.launch import ROOT, environment, needs_mpi, run_ranks
from xpnet.distributed import _watch

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no file handles of processes")


class TestRanks:
    pytestmark = needs_mpi

    @pytest.mark.parametrize(
        "how, error",
        [("uncaught", r"Traceback .*ValueError: no good"), ("exit", "SystemExit: 3")],
    )
    def test_an_exception_of_one_rank_ends_all(self, how, error):
        done = run_ranks(2, Path(__file__).with_name("failing_ranks.py"), how)
        assert done.returncode == 1
        assert re.search(rf"rank 1 of 2:.*{error}", done.stderr, re.S)
        assert "rank 0 of 2" not in done.stderr
        assert "has died" not in done.stderr

    @needs_pidfd
    def test_killed_ranks_cost_nothing(self):
        for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
            pytest.importorskip(module, reason="runs need xpnet[train]")
        script = [
            sys.executable,
            str(ROOT / "scripts" / "kill_ranks.py"),
            "--kills",
            "1",
            "--ranks",
            "2",
            "--span",
            "1",
        ]
        done = subprocess.run(script, env=environment(), capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(" ended after ") == 1  # within a minute, or the script says that they hang
        assert "weights as without kills" in done.stdout


@needs_pidfd
class TestWatch:
    """The process that waits for the ranks, with processes that sleep in their place."""

    @pytest.fixture
    def sleepers(self):
        started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(3)]
        yield started
        for process in started:
            process.kill()
            process.wait()

    def watching(self, tmp_path, sleepers):
        pairs = [f"{rank}:{process.pid}" for rank, process in enumerate(sleepers)]
        command = [sys.executable, str(_watch.__file__), str(tmp_path), "here", *pairs]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return process

    def test_the_first_to_die_is_named_and_the_others_are_ended(self, tmp_path, sleepers):
        watch = self.watching(tmp_path, sleepers)
        sleepers[2].kill()
        assert f"rank 2 (process {sleepers[2].pid} on here) has died" in watch.communicate(timeout=60)[1]
        assert sleepers[1].wait(timeout=60) == -signal.SIGKILL  # though no launcher did it
        assert not tmp_path.exists()

    @pytest.mark.parametrize("left", ["left-0 left-1 left-2", "aborted"])
    def test_ranks_that_leave_are_not_named(self, tmp_path, sleepers, left):
        watch = self.watching(tmp_path, sleepers)
        for name in left.split():
            (tmp_path / name).touch()
        for process in sleepers:
            process.terminate()
        assert watch.communicate(timeout=60)[1] == ""
        assert watch.returncode == 0
