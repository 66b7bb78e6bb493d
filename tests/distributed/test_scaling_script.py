"""The script that measures scaling, with a tiny network and few steps."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.distributed.launch import ROOT, environment, needs_mpi

pytest.importorskip("matplotlib", reason="the script draws")
pytestmark = needs_mpi


def test_it_measures_and_predicts(tmp_path) -> None:
    tiny = ["--model", "tiny_convnet", "--input", "1,8,8", "--batch-size", "32", "--steps", "20", "--ranks", "2"]
    command = [sys.executable, str(ROOT / "scripts" / "scaling.py"), *tiny, "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert [entry["ranks"] for entry in found["measured"]] == [1, 2]
    assert all(entry["bytes"] == 1370 * 4 for entry in found["measured"])
    assert set(found["predicted"]) == {"1", "2"}
    efficiency = [entry["efficiency"] for entry in found["gpus"].values()]
    assert efficiency == sorted(efficiency, reverse=True)
    assert (tmp_path / "scaling.png").stat().st_size > 1000
