"""BLAS on one thread while the team's threads multiply side by side.

BLAS's own threads gain nothing on products of a few rows, wait in a loop for the next product on cores that others
then lack, and leave everything between two products to one core. So the kernels share out whole blocks of work, and
BLAS multiplies within a block on the thread that asks.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

__all__ = ["single_threaded_blas"]


@functools.cache
def _libraries() -> tuple[Any, ...]:
    """Return the controllers of the BLAS libraries that NumPy has loaded, as far as threadpoolctl knows them."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set_threads(library: Any, count: int) -> None:
    """Set the threads of a BLAS from any thread.

    Of those that all threads of the process share, threadpoolctl from 3.8 on lets one thread alone set the number, and
    does nothing, without a word, when another one asks. Nobody is left in charge here.
    """
    free = getattr(library, "clear_controlling_thread", None)
    if free is not None:
        free(force=True)
    library.set_num_threads(count)
    if free is not None:
        free(force=True)


class _SingleThreaded:
    """A context that any number of threads may be in; the last to leave gives BLAS its threads back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [(library, library.num_threads) for library in _libraries()]
                for library, count in self._before:
                    if count != 1:
                        _set_threads(library, 1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, count in self._before:
                    if count != 1:
                        _set_threads(library, count)
                self._before = []

    def forget(self) -> None:
        """Begin anew in a forked process, where the threads that were in it do not live on."""
        self._lock, self._inside = threading.Lock(), 0
        for library, count in self._before:
            _set_threads(library, count)
        self._before = []

    def threads(self) -> int | None:
        """Return how many threads BLAS has outside; None where that cannot be told, nor changed."""
        with self._lock:
            counts = [count for _, count in self._before] if self._inside else [b.num_threads for b in _libraries()]
        return min(counts) if counts else None


single_threaded_blas = _SingleThreaded()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_threaded_blas.forget)
