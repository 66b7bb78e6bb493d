"""Making things ahead in a thread: in order, no more than a few, and never longer than somebody wants them."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 1.0  # seconds between looks at whether the thread still lives, and the most to wait for its end


def ahead(make: Callable[[int], T], numbers: Iterable[int], depth: int) -> Iterator[T]:
    """Yield ``make(number)`` for each number, up to `depth` of them made before they are asked for.

    The thread begins with the first ``next`` and ends with the generator: when it is exhausted,
    closed, abandoned to the garbage collector, or left by an exception. What `make` raises comes
    out of ``next`` in its place.
    """
    worker = _Worker(make, numbers, depth)
    try:
        worker.start()  # in here, since Ctrl-C may come before it returns
        yield from worker
    finally:
        worker.stop()


class _Worker(Generic[T]):
    """The thread and what it has ready. It knows nothing of the generator, so that this can be collected."""

    def __init__(self, make: Callable[[int], T], numbers: Iterable[int], depth: int) -> None:
        # Its lock is reentrant: a collection may run `stop` in either thread while it holds the lock.
        self._changed = threading.Condition()
        self._ready: deque[tuple[T] | BaseException] = deque()
        self._stopped = self._finished = False
        # A daemon, since Python waits for all others before it calls what atexit has
        self._thread = threading.Thread(
            target=self._run, args=(make, numbers, depth), name="xpnet-prefetch", daemon=True
        )
        self._process = os.getpid()

    def start(self) -> None:
        _workers.add(self)
        self._thread.start()

    def _run(self, make: Callable[[int], T], numbers: Iterable[int], depth: int) -> None:
        try:
            for number in numbers:
                with self._changed:
                    while len(self._ready) >= depth and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        return
                self._hand_over((make(number),))
        except BaseException as error:
            self._hand_over(error)
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _hand_over(self, item: tuple[T] | BaseException) -> None:
        with self._changed:
            if not self._stopped:
                self._ready.append(item)
                self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not self._ready:
                    if self._finished:
                        return
                    if not self._thread.is_alive():
                        raise RuntimeError("the thread that makes the batches is gone: was the process forked?")
                    self._changed.wait(_PATIENCE)  # a wait without end could not be interrupted on every system
                item = self._ready.popleft()
                self._changed.notify_all()
            if isinstance(item, BaseException):
                try:
                    raise item
                finally:
                    del item  # or error and traceback would keep each other alive
            yield item[0]
            del item  # the consumer's to keep or to drop

    def stop(self) -> None:
        """Tell the thread to end, and wait while it finishes what it is making."""
        if os.getpid() != self._process:  # a fork left the thread behind, perhaps holding its lock
            return
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():  # a collection may run there
            self._thread.join(_PATIENCE)


_workers: weakref.WeakSet[_Worker] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the threads of passes that somebody still holds, while the interpreter is whole."""
    for worker in list(_workers):
        worker.stop()
