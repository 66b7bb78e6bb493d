"""Where the time of a run goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xpnet import backend
from xpnet.text import table
from xpnet.training.callbacks.base import Callback

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["PhaseTimes"]


class PhaseTimes(Callback):
    """Adds up the seconds of each phase of the steps: data, forward, loss, backward, update, validation, callbacks.

    Parameters
    ----------
    synchronize : bool, default False
        Wait for the device at each change of phase. On a GPU the times are otherwise those of the
        program that sends the work, not of the work; waiting makes the run slower.

    Attributes
    ----------
    seconds : dict of str to float
        Of all calls of `fit` so far.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import PhaseTimes, Trainer
    >>> times = PhaseTimes()
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> history = Trainer(Dense(2), callbacks=[times]).fit(data, epochs=2, verbose=False)
    >>> sorted(times.seconds)
    ['backward', 'callbacks', 'data', 'forward', 'loss', 'update']
    """

    def __init__(self, *, synchronize: bool = False) -> None:
        self.synchronize = synchronize
        self.seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    def on_phase(self, trainer: Trainer, phase: str) -> None:
        """End one phase and begin the next."""
        self._close()
        self._phase = phase

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """End the last phase."""
        self._close()
        self._phase = None

    def _close(self) -> None:
        if self.synchronize:
            backend.synchronize()
        now = time.perf_counter()
        if self._phase is not None:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._since = now

    def table(self) -> str:
        """Return a line for each phase, with its seconds and its share, the longest first."""
        total = sum(self.seconds.values())
        if not total:
            return "no phase timed yet"
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        rows = [[phase, f"{seconds:.2f}", f"{seconds / total:.1%}"] for phase, seconds in ordered]
        return table([["phase", "seconds", "share"], *rows])
