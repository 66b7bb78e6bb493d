"""Threads for the kernels: blocks of work shared out among the cores.

What the blocks call (NumPy's loops, BLAS, compiled kernels) does not hold the global interpreter lock. Numba has
threads of its own, but its layer without further libraries ends the process when two threads call it at once. Here
any number of callers share one queue; each waits for its own work only.

To be woken takes a thread 30 to 100 us, twice for each piece of work that is shared: the helper, and at the end the
caller. So both look for a while at a number that the other one changes, before they go to sleep.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnet.cores import threads_allowed
from xpnet.kernels.blas import single_threaded_blas

__all__ = ["cut", "parts_worth", "run_all", "run_ranges", "shares", "stay_awake_by", "threads_beside_blas"]

PART = 1 << 18  # elements in memory for which it is worth to wake another thread, about 0.1 ms

_lock = threading.Lock()
_work: queue.SimpleQueue = queue.SimpleQueue()
_helpers = 0
_watch: Callable[[np.ndarray, float], None] | None = None
_given, _made = np.zeros(1), np.zeros(1)  # how often work was given and made, about: signs for those who watch


def stay_awake_by(watch: Callable[[np.ndarray, float], None]) -> None:
    """Let threads that wait call ``watch(flag, seen)`` first, which returns when a flag is no longer what was seen.

    It may return before that, but not much later than the flag has changed, and must not hold the interpreter's lock.
    """
    global _watch
    _watch = watch


def threads_beside_blas() -> int:
    """Return how many threads may multiply matrices at once: 1 where BLAS cannot be told to use no more threads."""
    allowed = threads_allowed()
    return 1 if allowed == 1 else min(allowed, single_threaded_blas.threads() or 1)


def run_all(calls: Sequence[Callable[[], object]], *, products: bool = False, at_most: int | None = None) -> None:
    """Make every call, in this thread and at the same time in helpers, and wait for all of them.

    Which thread makes which call is left to chance: calls must not depend on one another, nor on the order.

    Parameters
    ----------
    calls : sequence of function
    products : bool, default False
        Whether they have BLAS multiply matrices, for which it uses no threads of its own meanwhile; where it cannot
        be told so, this thread makes all calls.
    at_most : int, optional
        Calls at a time, at least one: as many as there is scratch memory for.
    """
    if len(calls) == 1 and not products:
        calls[0]()
        return
    threads = 1 if len(calls) == 1 else threads_beside_blas() if products else threads_allowed()
    helpers = max(1, min(threads, len(calls), len(calls) if at_most is None else at_most)) - 1
    # also for one call after another: or else BLAS's threads, and with them the bits, would depend on who else is in it
    with single_threaded_blas if products and threads_allowed() > 1 else contextlib.nullcontext():
        if helpers == 0:
            for call in calls:
                call()
            return
        _start(helpers)
        left = collections.deque(calls)
        done: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(helpers):
            _work.put((left, done, contextvars.copy_context()))  # with NumPy's error state, one for each thread
        _given[0] += 1.0
        failed = [_drain(left), *(_next(done, _made) for _ in range(helpers))]
    for error in failed:
        if error is not None:
            raise error


def parts_worth(threads: int, count: int, elements: int) -> int:
    """Return into how many parts to cut `count` things, `elements` numbers in memory, for so many threads."""
    return max(1, min(threads, count, elements // PART))


def shares(worth: int) -> int:
    """Return into how many parts to cut what is worth so many: as many for each thread, up to two.

    Of two, a thread that is held up leaves its second to the others.
    """
    threads = threads_allowed()
    parts = max(1, min(2 * threads, worth))
    return parts if parts < threads else parts - parts % threads


def cut(count: int, parts: int) -> list[slice]:
    """Cut 0 to `count` into so many slices of about equal length."""
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def run_ranges(kernel: Callable[..., None], arguments: tuple, count: int, elements: int, rest: tuple = ()) -> None:
    """Call ``kernel(*arguments, begin, end, *rest)`` for 0 to `count` in as many parts as are worth a thread.

    `elements` are what all of them together go through.
    """
    worth = parts_worth(threads_allowed(), count, elements)
    if worth == 1:
        kernel(*arguments, 0, count, *rest)
        return
    parts = cut(count, worth)
    run_all([functools.partial(kernel, *arguments, part.start, part.stop, *rest) for part in parts])


def _drain(left: collections.deque) -> BaseException | None:
    """Make calls until there are none left; after a failure the others are dropped."""
    try:
        while True:
            try:
                call = left.popleft()
            except IndexError:
                return None
            call()
    except BaseException as error:
        left.clear()
        return error


def _next(things: queue.SimpleQueue, sign: np.ndarray) -> Any:
    """Wait for the next thing in a queue: awake for a while, then asleep."""
    if _watch is not None:
        seen = sign[0]
        if things.empty():
            _watch(sign, seen)
    return things.get()


def _start(wanted: int) -> None:
    global _helpers
    if _helpers < wanted:
        with _lock:
            while _helpers < wanted:
                threading.Thread(target=_help, args=(_work,), name=f"xpnet-kernels-{_helpers}", daemon=True).start()
                _helpers += 1


def _help(work: queue.SimpleQueue) -> None:
    while True:
        left, done, context = _next(work, _given)
        done.put(context.run(_drain, left))
        _made[0] += 1.0
        del left, done, context  # with the arrays that they hold


def _forget() -> None:
    """Begin anew in a forked process, where no thread but the forking one lives on."""
    global _helpers, _lock, _work
    _helpers, _lock, _work = 0, threading.Lock(), queue.SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
