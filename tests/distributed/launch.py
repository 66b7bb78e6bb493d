"""Starting real ranks for a test: a program under ``mpiexec``, with what each rank has to report on standard output."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_BESIDE = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpiexec")

needs_mpi = [
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed: xpnet[mpi]"),
    pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec: xpnet[mpi] brings one"),
]


def environment() -> dict[str, str]:
    """One thread for each rank, NumPy, and what Open MPI wants to hear before it starts as root or on few cores."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("XPNET_", "PMI_", "OMPI_", "PYTEST_XDIST"))}
    return own | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "XPNET_BACKEND": "numpy",
        "XPNET_COMPILED": "off",  # it would take longer to load than to train
        "PYTHONPATH": os.pathsep.join([str(ROOT), own.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }


def run_ranks(n: int, *command: str | Path, timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python COMMAND`` on `n` ranks to the end."""
    assert MPIEXEC is not None
    words = [MPIEXEC, "-n", str(n), sys.executable, *map(str, command)]
    return subprocess.run(
        words, env=environment(), capture_output=True, text=True, timeout=timeout, check=False, **more
    )


def reports(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the JSON objects that the ranks have printed, one a line."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
