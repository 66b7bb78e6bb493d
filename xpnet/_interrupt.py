"""Holding back Ctrl-C: between two training steps, so that none is cut in half, and while kernels are compiled.

SIGTERM, which schedulers and containers send, means the same within a `Termination`, as the command line has one.
Elsewhere it is left alone: what it means in a program is for the program to say.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["InterruptGuard", "Termination"]


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # Python delivers signals to no other


class Termination:
    """Within a ``with`` block, SIGTERM is a Ctrl-C, and `received` says that it has come.

    It does nothing outside the main thread, in a process that was told to ignore SIGTERM, and where a program has a
    handler of its own.
    """

    def __init__(self) -> None:
        self.received = False
        self._active = False

    def __enter__(self) -> Termination:
        self._active = _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._active:
            signal.signal(signal.SIGTERM, self.handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Be the handler of the signal."""
        self.received = True
        raise KeyboardInterrupt


class InterruptGuard:
    """Within a ``with`` block, the first Ctrl-C only sets `requested`; a second one raises at once.

    So does a SIGTERM within a `Termination`. It does nothing outside the main thread, and in a process that was told to
    ignore Ctrl-C (``nohup``).
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._former: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def __enter__(self) -> InterruptGuard:
        if _in_main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                former = signal.getsignal(number)
                ours = isinstance(getattr(former, "__self__", None), (Termination, InterruptGuard))
                if ours or (number == signal.SIGINT and former not in (None, signal.SIG_IGN)):
                    self._former[number] = former
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def pass_on(self) -> None:
        """After the block: let the signal that was held back, if any, do what it would have done."""
        if self._received is not None:
            signal.raise_signal(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        former = getattr(self._former[number], "__self__", None)
        if isinstance(former, Termination):
            former.received = True
        if self.requested:
            raise KeyboardInterrupt
        self._received = number
