"""kill -9 at random moments costs nothing but the time since the last checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes that it kills")
def test_killed_fifty_times(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XPNET_")}
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "XPNET_BACKEND": "numpy"}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_run.py")), str(tmp_path), "50"],
        env=environment | single,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["kills"] == 50
    assert report["different_steps"] > 30
    assert report["leftovers"] == []
