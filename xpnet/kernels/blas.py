"""BLAS on one thread while the team's threads multiply side by side.

BLAS's own threads gain nothing on products of a few rows, wait in a loop for the next product on cores that others
then lack, and leave everything between two products to one core. So the kernels share out whole blocks of work, and
BLAS multiplies within a block on the thread that asks.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["single_threaded_blas"]


class _Library(NamedTuple):
    """How to ask and tell a BLAS library its number of threads."""

    threads: Callable[[], int]
    set_threads: Callable[[int], object]


@functools.cache
def _libraries() -> tuple[_Library, ...]:
    """Return the BLAS libraries that NumPy has loaded, as far as threadpoolctl knows them."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(_functions(found) for found in ThreadpoolController().select(user_api="blas").lib_controllers)


def _functions(library: Any) -> _Library:
    """Return the functions of a library that threadpoolctl has found, the C library's own where they are known.

    threadpoolctl takes ten times as long, as much as a small product. And of an OpenBLAS whose threads all threads of
    the process share, from 3.8 on it lets one thread alone set the number, and does nothing, without a word, when
    another one asks.
    """
    if library.internal_api == "openblas" and library.threading_layer != "openmp":
        for before, after in itertools.product(("", "scipy_"), ("", "64_", "_64")):
            ask, tell = (f"{before}openblas_{name}_num_threads{after}" for name in ("get", "set"))
            if hasattr(library.dynlib, ask) and hasattr(library.dynlib, tell):
                return _Library(getattr(library.dynlib, ask), getattr(library.dynlib, tell))
    return _Library(library.get_num_threads, library.set_num_threads)


class _SingleThreaded:
    """A context that any number of threads may be in; the last to leave gives BLAS its threads back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[_Library, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [(library, library.threads()) for library in _libraries()]
                for library, count in self._before:
                    if count != 1:
                        library.set_threads(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, count in self._before:
                    if count != 1:
                        library.set_threads(count)
                self._before = []

    def forget(self) -> None:
        """Begin anew in a forked process, where the threads that were in it do not live on."""
        self._lock, self._inside = threading.Lock(), 0
        for library, count in self._before:
            library.set_threads(count)
        self._before = []

    def threads(self) -> int | None:
        """Return how many threads BLAS has outside; None where that cannot be told, nor changed."""
        with self._lock:
            inside = [count for _, count in self._before]
            counts = inside if self._inside else [library.threads() for library in _libraries()]
        return min(counts) if counts else None


single_threaded_blas = _SingleThreaded()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_threaded_blas.forget)
