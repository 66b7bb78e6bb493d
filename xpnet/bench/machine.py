"""What the numbers were measured on: machine, versions, commit, and the peaks to compare with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np

import xpnet
from xpnet import backend, config
from xpnet.backend.cuda import cuda_report

__all__ = ["describe", "peaks"]


def peaks(repetitions: int = 10) -> dict[str, float]:
    """Return the best of some large products (GFLOP/s, float32) and of some large copies (GB/s, 256 MiB).

    Of 2048 x 2048 matrices by NumPy; if the selected backend is cupy, of 8192 x 8192 by CuPy. A copy counts twice: what
    is read and what is written.
    """
    on_gpu = array_api_compat.is_cupy_namespace(backend.get().xp)
    xp, side = (backend.get().xp, 8192) if on_gpu else (np, 2048)
    a = xp.full((side, side), 0.5, dtype=xp.float32)
    product = xp.empty_like(a)
    source, target = (xp.ones(1 << 26, dtype=xp.float32) for _ in range(2))
    return {
        "gflops": 2 * side**3 / _best(lambda: xp.matmul(a, a, out=product), repetitions) / 1e9,
        "gigabytes": 2 * source.nbytes / _best(lambda: xp.copyto(target, source), repetitions) / 1e9,
    }


def _best(call: Any, repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        backend.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def describe() -> dict[str, Any]:
    """Return CPU, cores, versions, commit and what there is of CUDA."""
    versions = {"xpnet": xpnet.__version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "numba"):
        if name == "numba" and config.get("compiled") == "off":
            continue  # not in use
        if importlib.util.find_spec(name) is not None:
            versions[name] = importlib.metadata.version(name)
    return {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform(), "versions": versions,
            "commit": _commit(), "cuda": cuda_report()}  # fmt: skip


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout that xpnet runs from, marked if files differ; None outside of one."""
    folder = Path(xpnet.__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
