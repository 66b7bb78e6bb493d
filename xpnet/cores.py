"""How many threads this process may compute with."""

from __future__ import annotations

import functools
import math
import os

from xpnet.files import read_system_file

__all__ = ["THREAD_VARIABLES", "container_limit", "threads_allowed", "usable_cores"]

THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def container_limit() -> float | None:
    """Return how many cores' time a container may take (``docker run --cpus 2``); None without a limit."""
    quota, _, period = read_system_file("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not quota:  # the first version of control groups
        quota, period = (
            read_system_file(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        )
    return round(int(quota) / int(period), 2) if quota.isdecimal() and period.isdecimal() else None


def usable_cores() -> int:
    """Return the cores that the system gives this process (``taskset``, SLURM), at most."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def threads_allowed() -> int:
    """Return how many threads to use: the least of usable cores, a container's limit and the environment's."""
    limits = [int(text) for name in THREAD_VARIABLES if (text := os.environ.get(name, "").strip()).isdecimal()]
    quota = container_limit()
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min([usable_cores(), *limits]))
