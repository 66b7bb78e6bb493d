"""A whole benchmark: one process after another, each with the wanted number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xpnet
from xpnet.bench.machine import describe
from xpnet.bench.subjects import RIVALS
from xpnet.bench.workloads import OPERATIONS, WORKLOADS

__all__ = ["MODES", "benchmark", "measure_apart"]

MODES = ("train", "inference")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def benchmark(
    workloads: Sequence[str] = tuple(WORKLOADS),
    operations: Sequence[str] = (),
    *,
    modes: Sequence[str] = MODES,
    batch: int | None = None,
    memory: bool = True,
    backend: str = "numpy",
    threads: int = 1,
    rounds: int = 7,
    seconds: float = 0.3,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure workloads and operations beside PyTorch, where it is installed, and the textbook's network.

    Parameters
    ----------
    workloads, operations : sequence of str
        Names from `WORKLOADS` and `OPERATIONS`.
    modes : sequence of {"train", "inference"}
        For the workloads.
    batch : int, optional
        Of the workloads; by default each has its own.
    memory : bool, default True
        Whether to measure the peak memory of training steps as well (needs Linux; memory of the host, so not
        with the backend cupy).
    backend : str, default "numpy"
        Of xpnet; see `xpnet.backend.use`. With cupy, PyTorch runs on the GPU too, and the textbook not at all.
    threads : int, default 1
        Of BLAS and of PyTorch.
    rounds, seconds
        As for `alternate`.
    progress : function of str, optional
        Called before each part.

    Returns
    -------
    result : dict
        ``"about"`` (settings, machine, versions, commit), ``"peaks"``, ``"workloads"``, ``"operations"``,
        ``"memory"``: seconds and bytes, ready for JSON.

    Raises
    ------
    ValueError
        If a name is unknown.
    ChildProcessError
        If a process that measures fails; the message ends with what it said.
    """
    for given, known, what in ((workloads, WORKLOADS, "workload"), (operations, OPERATIONS, "operation"),
                               (modes, MODES, "mode")):  # fmt: skip
        for name in given:
            if name not in known:
                raise ValueError(f"benchmark: no {what} {name!r}; there are {', '.join(known)}")
    settings = {"backend": backend, "threads": threads, "rounds": rounds, "seconds": seconds, "batch": batch}
    memory = memory and sys.platform == "linux" and "train" in modes and not backend.startswith("cupy")
    progress("peaks")
    result: dict[str, Any] = {"about": {**settings, **describe()}, "peaks": measure_apart(settings, task="peaks")}
    result |= {"workloads": {}, "operations": {}, "memory": {}}
    for name in workloads:
        for mode in modes:
            progress(f"{name}, {mode}")
            found = measure_apart(settings, task="workload", name=name, mode=mode)
            result["workloads"].setdefault(name, {})[mode] = found
        if memory:
            progress(f"{name}, memory")
            taken = {s: measure_apart(settings, task="memory", name=name, subject=s) for s in ("xpnet", *RIVALS)}
            result["memory"][name] = {s: found for s, found in taken.items() if found is not None}
    for name in operations:
        progress(name)
        result["operations"][name] = measure_apart(settings, task="operation", name=name)
    return result


def measure_apart(settings: dict[str, Any], **task: Any) -> Any:
    """Measure one thing in a process of its own, with the threads that the settings say; see `xpnet.bench.worker`."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(settings["threads"]))
    path = os.pathsep.join([str(Path(xpnet.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]).strip(
        os.pathsep
    )
    done = subprocess.run(
        [sys.executable, "-m", "xpnet.bench.worker", json.dumps({**settings, **task})],
        env=os.environ | threads | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(f"benchmark: {task} ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)
