"""Taking turns: times that can be compared on a machine that is never quite quiet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Times", "alternate", "ratio", "summarize"]


class Times(NamedTuple):
    """Seconds of one call: the median, the fastest, the quartiles, and how many calls were timed."""

    median: float
    fastest: float
    lower_quartile: float
    upper_quartile: float
    calls: int

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a fraction of the median."""
        return (self.upper_quartile - self.lower_quartile) / self.median


def alternate(
    subjects: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    seconds: float = 0.3,
    wait: Callable[[], object] = lambda: None,
) -> dict[str, list[list[float]]]:
    """Time functions in turn, several calls at a visit, so that all of them meet the same disturbances.

    Each visit begins with calls that are not timed: caches then hold this subject's data, and threads of the one
    before have gone to sleep (OpenBLAS's spin for about 30 ms).

    Parameters
    ----------
    subjects : mapping of str to function
    rounds : int, default 7
        Visits to each subject; every second round goes in reverse.
    seconds : float, default 0.3
        About how long a visit lasts; at least one call is timed.
    wait : function, optional
        Called after each call and before the clock is read, so that a device has done what it was asked.

    Returns
    -------
    times : dict of str to list of list of float
        Seconds of each timed call of each visit.

    Examples
    --------
    >>> from xpnet.bench import alternate
    >>> times = alternate({"sum": lambda: sum(range(100))}, rounds=2, seconds=0.001)
    >>> len(times["sum"])
    2
    """
    for call in subjects.values():
        call()  # what happens once: compiling, first memory
        wait()
    times: dict[str, list[list[float]]] = {name: [] for name in subjects}
    for i in range(rounds):
        for name, call in list(subjects.items())[:: -1 if i % 2 else 1]:
            _repeat(call, wait, min(0.04, seconds / 4))
            times[name].append(_repeat(call, wait, seconds))
    return times


def _repeat(call: Callable[[], object], wait: Callable[[], object], seconds: float) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - start)
    return taken


def summarize(visits: Sequence[Sequence[float]]) -> Times:
    """Return the statistics of all timed calls of one subject."""
    calls = sorted(t for visit in visits for t in visit)
    quarter = len(calls) // 4
    return Times(statistics.median(calls), calls[0], calls[quarter], calls[len(calls) - 1 - quarter], len(calls))


def ratio(rival: Sequence[Sequence[float]], own: Sequence[Sequence[float]]) -> float:
    """Return rival time / own time: the median over the rounds, in each of which both were measured.

    Examples
    --------
    >>> from xpnet.bench import ratio
    >>> ratio([[2.0], [4.0], [9.0]], [[1.0], [2.0], [3.0]])
    2.0
    """
    pairs = zip(rival, own, strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)
