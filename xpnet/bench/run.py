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
from xpnet import config
from xpnet.bench.machine import describe
from xpnet.bench.scaling import CURVES
from xpnet.bench.subjects import FORMATS, RIVALS
from xpnet.bench.workloads import LARGE, OPERATIONS, WORKLOADS
from xpnet.cores import THREAD_VARIABLES
from xpnet.text import no_such

__all__ = ["MODES", "benchmark", "measure_apart"]

MODES = ("train", "inference")


def benchmark(
    workloads: Sequence[str] = tuple(WORKLOADS),
    operations: Sequence[str] = (),
    *,
    scaling: Sequence[str] = (),
    memory_of: Sequence[str] = (),
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

    Everything is measured in float32, on a GPU with TF32 if the setting ``allow_tf32`` says so, for PyTorch too.

    Parameters
    ----------
    workloads, operations : sequence of str
        Names from `WORKLOADS` and `OPERATIONS`.
    scaling : sequence of str
        Names from `CURVES`: how xpnet's time grows with the batch, or with images, channels or pixels.
    memory_of : sequence of str
        Names from `LARGE` or `WORKLOADS` whose peak memory is measured and nothing else.
    modes : sequence of {"train", "inference"}
        For the workloads.
    batch : int, optional
        Of the workloads and of `memory_of`; by default each has its own.
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
        ``"scaling"``, ``"memory"``: seconds and bytes, ready for JSON.

    Raises
    ------
    ValueError
        If a name is unknown, or `memory_of` cannot be measured.
    ChildProcessError
        If a process that measures fails; the message ends with what it said.
    """
    for given, known, what in ((workloads, WORKLOADS, "workload"), (operations, OPERATIONS, "operation"),
                               (scaling, CURVES, "curve"), (memory_of, [*WORKLOADS, *LARGE], "network"),
                               (modes, MODES, "mode")):  # fmt: skip
        for name in given:
            if name not in known:
                raise ValueError(f"benchmark: {no_such(what, name, known)}")
    measurable = sys.platform == "linux" and not backend.startswith("cupy")
    if memory_of and not measurable:
        raise ValueError(f"benchmark: peak memory is that of the host, on Linux; not on {sys.platform} with {backend}")
    settings = {"backend": backend, "threads": threads, "rounds": rounds, "seconds": seconds, "batch": batch}
    progress("peaks")
    about = {**settings, "allow_tf32": config.get("allow_tf32"), **describe()}
    result: dict[str, Any] = {"about": about, "peaks": measure_apart(settings, task="peaks")}
    result |= {"workloads": {}, "operations": {}, "scaling": {}, "memory": {}}
    for name in workloads:
        for mode in modes:
            progress(f"{name}, {mode}")
            found = measure_apart(settings, task="workload", name=name, mode=mode)
            result["workloads"].setdefault(name, {})[mode] = found
        if memory and measurable and "train" in modes and name not in memory_of:
            progress(f"{name}, memory")
            result["memory"][name] = _memory(settings, name)
    for name in operations:
        progress(name)
        result["operations"][name] = measure_apart(settings, task="operation", name=name)
    for name in scaling:
        progress(name if " over " in name else f"{name} over images")
        result["scaling"][name] = measure_apart(settings, task="scaling", name=name)
    for name in memory_of:
        progress(f"{name}, memory")
        result["memory"][name] = _memory(settings, name)
    return result


def _memory(settings: dict[str, Any], name: str) -> dict[str, Any]:
    # the textbook keeps whole matrices of columns, tens of gigabytes of a large network
    subjects = ("xpnet", *FORMATS) if name in LARGE else ("xpnet", *RIVALS)
    taken = {subject: measure_apart(settings, task="memory", name=name, subject=subject) for subject in subjects}
    return {subject: found for subject, found in taken.items() if found is not None}


def measure_apart(settings: dict[str, Any], **task: Any) -> Any:
    """Measure one thing in a process of its own, with the threads that the settings say; see `xpnet.bench.worker`."""
    own = dict.fromkeys(THREAD_VARIABLES, str(settings["threads"]))
    own |= {"XPNET_ALLOW_TF32": str(config.get("allow_tf32")), "XPNET_COMPILED": config.get("compiled")}
    path = os.pathsep.join([str(Path(xpnet.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]).strip(
        os.pathsep
    )
    done = subprocess.run(
        [sys.executable, "-m", "xpnet.bench.worker", json.dumps({**settings, **task})],
        env=os.environ | own | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(f"benchmark: {task} ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)
