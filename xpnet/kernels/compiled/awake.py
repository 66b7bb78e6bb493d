"""Threads that wait awake for a while: to be woken takes longer than most of what the next work is far off."""

from __future__ import annotations

import functools
import time

import numpy as np

from xpnet.kernels.compiled import loader
from xpnet.kernels.table import uses_compiled

__all__ = ["watch"]

AWAKE = 1e-4  # seconds: longer than most gaps between two operations
MORE = 5e-6  # seconds in which the thread that has given the sign comes to release the interpreter's lock
TRIES = 1000  # of which the time is taken


def watch(flag: np.ndarray, seen: float) -> None:
    """Return when the flag, one float64, is no longer what was `seen`, or after a tenth of a millisecond.

    The interpreter's lock is not held meanwhile. Asked for as soon as the flag has changed, it would still be with the
    thread that has changed it, and this one put to sleep after all.
    """
    tries, more = _tries() if uses_compiled() else (0, 0)
    if tries:
        loader.kernel("_awake", "watch", flag.dtype)(flag, seen, tries, more)


@functools.cache
def _tries() -> tuple[int, int]:
    """Return how often to look in the time that there is, and how many pauses follow; 0 where it is not compiled."""
    flag = np.zeros(1)
    if not loader.usable("_awake", "watch", flag.dtype):
        return 0, 0
    look = loader.kernel("_awake", "watch", flag.dtype)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        look(flag, 0.0, TRIES, 0)
        taken.append(time.perf_counter() - start)
    each = max(min(taken) / TRIES, 1e-10)
    return int(AWAKE / each), int(MORE / each)
