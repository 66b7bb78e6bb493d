"""Holding back Ctrl-C: between two training steps, so that none is cut in half, and while kernels are compiled."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["InterruptGuard"]


class InterruptGuard:
    """Within a ``with`` block, the first Ctrl-C only sets `requested`; a second one raises at once.

    It does nothing outside the main thread, where Python delivers no signals, and in a process that
    was told to ignore Ctrl-C (``nohup``).
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None
        self._active = False

    def __enter__(self) -> InterruptGuard:
        self._former = signal.getsignal(signal.SIGINT)
        is_main = threading.current_thread() is threading.main_thread()
        self._active = is_main and self._former not in (None, signal.SIG_IGN)
        if self._active:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._former)

    def pass_on(self) -> None:
        """After the block: let the Ctrl-C that was held back, if any, do what it would have done."""
        if self.requested:
            signal.raise_signal(signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
