"""Random search for hyper-parameters: better than a grid, since few of them matter and nobody knows which."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.errors import OperationError
from xpnet.files import atomic_write
from xpnet.random import generator
from xpnet.text import as_json, table

__all__ = ["Choice", "LogUniform", "Search", "Trial", "Uniform", "random_search"]


class Uniform:
    """A number between two others, each as likely as the next.

    Parameters
    ----------
    low, high : float, low < high

    Raises
    ------
    ValueError
        If low is not below high, or one is not finite.
    """

    def __init__(self, low: float, high: float) -> None:
        _require(-math.inf < low < high < math.inf, f"{type(self).__name__}: give low < high, got {low!r}, {high!r}")
        self.low, self.high = float(low), float(high)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a number."""
        return float(rng.uniform(self.low, self.high))


class LogUniform(Uniform):
    """A number between two others above 0, each order of magnitude as likely as the next.

    Parameters
    ----------
    low, high : float, 0 < low < high

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.training.search import LogUniform
    >>> rng = np.random.default_rng(0)
    >>> drawn = [LogUniform(1e-6, 1e-2).draw(rng) for _ in range(1000)]
    >>> 0.4 < sum(number < 1e-4 for number in drawn) / 1000 < 0.6
    True
    """

    def __init__(self, low: float, high: float) -> None:
        _require(low > 0.0, f"LogUniform: low must be above 0, got {low!r}")
        super().__init__(low, high)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a number."""
        return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))


class Choice:
    """One of some values, each as likely as the next.

    Parameters
    ----------
    values : sequence
        At least one.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        _require(len(values) > 0, "Choice: give at least one value")
        self.values = list(values)

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One set of hyper-parameters and how well it did.

    Attributes
    ----------
    number : int
        From 1 on, in the order of trial.
    settings : dict
    score : float
        NaN if it failed.
    seconds : float
    error : str or None
        Why it failed: a loss that is not finite, settings that cannot be.
    """

    number: int
    settings: dict[str, Any]
    score: float
    seconds: float
    error: str | None = None


class Search:
    """The trials of a search.

    Parameters
    ----------
    trials : list of Trial
    maximize : bool, default True
        Whether more is better.
    """

    def __init__(self, trials: list[Trial], *, maximize: bool = True) -> None:
        self.trials, self.maximize = trials, maximize

    @property
    def ranked(self) -> list[Trial]:
        """The trials, the best first; those that failed last."""
        sign = -1.0 if self.maximize else 1.0
        return sorted(self.trials, key=lambda t: (math.isnan(t.score), sign * t.score if t.score == t.score else 0.0))

    @property
    def best(self) -> Trial:
        """The best trial.

        Raises
        ------
        ValueError
            If all have failed.
        """
        if not self.trials or math.isnan(self.ranked[0].score):
            raise ValueError("random_search: no trial has succeeded" + "".join(f"; {t.error}" for t in self.trials[:1]))
        return self.ranked[0]

    def table(self, top: int | None = None) -> str:
        """Return a table of the trials, the best first.

        Parameters
        ----------
        top : int, optional
            How many; by default all.
        """
        rows = self.ranked[:top]
        names = list(rows[0].settings) if rows else []
        cells = [["rank", "trial", "score", *names, "seconds", ""]]
        for rank, t in enumerate(rows, 1):
            values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (t.settings[n] for n in names)]
            cells.append([str(rank), str(t.number), f"{t.score:.4f}", *values, f"{t.seconds:.1f}", t.error or ""])
        return table(cells, left=[len(cells[0]) - 1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trials as JSON, the best first, with null for what is not finite; the file appears whole or not."""
        trials = [dataclasses.asdict(t) for t in self.ranked]
        with atomic_write(path) as file:
            file.write((as_json({"maximize": self.maximize, "trials": trials}, indent=2) + "\n").encode())


def random_search(
    measure: Callable[[dict[str, Any]], float],
    space: Mapping[str, Uniform | Choice],
    *,
    trials: int = 20,
    seed: int = 0,
    maximize: bool = True,
    report: Callable[[Trial], object] | None = None,
) -> Search:
    """Try random hyper-parameters.

    Parameters
    ----------
    measure : function of a dict
        Trains with the settings it is given and returns a score, such as the accuracy on validation data (not on
        test data, which must not choose anything).
    space : mapping of str to LogUniform, Uniform or Choice
        What to draw each setting from.
    trials : int, default 20
    seed : int, default 0
        Of the settings: trial i has the same ones however many trials there are.
    maximize : bool, default True
        Whether a larger score is better.
    report : function of a Trial, optional
        Called after each one.

    Returns
    -------
    Search
        ``best``, ``ranked``, ``table()``; Ctrl-C ends the search with the trials there have been.

    Raises
    ------
    ValueError
        If trials is below 1 or the space is empty.

    Notes
    -----
    A trial that ends in an `OperationError` (a loss that is not finite, say) has failed and the search goes
    on; other exceptions end it, since they are faults of the program.

    References
    ----------
    Bergstra and Bengio, *Random search for hyper-parameter optimization* (2012); Saito, *Deep Learning from
    Scratch* (2016), section 6.5.

    Examples
    --------
    >>> from xpnet.training.search import LogUniform, random_search
    >>> search = random_search(lambda s: -abs(s["lr"] - 0.01), {"lr": LogUniform(1e-4, 1)}, trials=50)
    >>> 0.005 < search.best.settings["lr"] < 0.02
    True
    """
    _require(trials >= 1, f"random_search: trials must be at least 1, got {trials!r}")
    _require(len(space) > 0, "random_search: the space is empty; give what to draw each setting from")
    done: list[Trial] = []
    try:
        for number in range(1, trials + 1):
            rng = generator(seed, number)
            settings = {name: values.draw(rng) for name, values in space.items()}
            start = time.perf_counter()
            score, error = math.nan, None
            try:
                score = float(measure(dict(settings)))
            except OperationError as raised:
                error = str(raised)
            done.append(Trial(number, settings, score, time.perf_counter() - start, error))
            if report is not None:
                report(done[-1])
    except KeyboardInterrupt:
        if not done:
            raise
    return Search(done, maximize=maximize)


def _require(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)
