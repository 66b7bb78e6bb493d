"""What is measured beside the loss: counted on the device, batch by batch, and read once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, array_namespace, device_of, to_numpy
from xpnet.kernels import find
from xpnet.text import no_such, table

__all__ = ["Accuracy", "ClassScores", "ConfusionMatrix", "Metric", "TopK", "by_name", "count_correct"]


def count_correct(y: Array, t: Array) -> Array:
    """Return how many rows of `y` (N, K) have their maximum at the label: a 0-d integer array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.training import count_correct
    >>> int(count_correct(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])))
    1
    """
    xp = array_namespace(y, t)
    return find("count_correct", xp)(y, _labels(t), None, 0, 0)[0]


def _labels(t: Array) -> Array:
    """Return class numbers (N,) of int64 from labels or one-hot rows."""
    xp = array_namespace(t)
    return xp.astype(xp.argmax(t, axis=1) if len(t.shape) == 2 else t, xp.int64, copy=False)


def _kept(t: Array, ignore_index: int | None) -> Array | None:
    """Return which labels count; None if all do, as one-hot rows always do."""
    if ignore_index is None or len(t.shape) == 2:
        return None
    return _labels(t) != int(ignore_index)  # of int64, since -1 cannot be compared with unsigned labels


class Metric:
    """Base of the metrics: `reset`, then `update` for each batch, then `result`.

    A subclass gives `name` and the three methods. `update` must not wait for the device.

    Attributes
    ----------
    name : str
        Under which the result stands in `Evaluation.metrics` and in the history.
    """

    name = ""

    def reset(self) -> None:
        """Begin anew."""
        raise NotImplementedError(f"{type(self).__name__} must define reset()")

    def update(self, y: Array, t: Array) -> None:
        """Count a batch: `y` (N, K) scores of the model, `t` (N,) labels or (N, K) one-hot rows."""
        raise NotImplementedError(f"{type(self).__name__} must define update(y, t)")

    def result(self) -> Any:
        """Return what was measured since `reset`."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def counts(self) -> Any:
        """Return what was counted since `reset`, as numbers and NumPy arrays; only runs on several processes ask."""
        raise NotImplementedError(
            f"{type(self).__name__} must define counts() and add_counts(counts) to be measured on several processes"
        )

    def add_counts(self, counts: Any) -> None:
        """Add what `counts` returned, on this process or another one."""
        raise NotImplementedError(f"{type(self).__name__} must define add_counts(counts)")


class _Fraction(Metric):
    """What the metrics share that say which part of the samples was found."""

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.correct: Any = 0
        self.counted: Any = 0

    def _tally(self, hits: Array, t: Array) -> None:
        """Count the rows that count, and the hits among them."""
        xp = array_namespace(hits)
        kept = _kept(t, self.ignore_index)
        hits, counted = (hits, hits.shape[0]) if kept is None else (hits & kept, xp.sum(xp.astype(kept, xp.int64)))
        self.add_counts((xp.sum(xp.astype(hits, xp.int64)), counted))

    def result(self) -> float:
        """Return the fraction; NaN if nothing was counted."""
        counted = int(self.counted)
        return int(self.correct) / counted if counted else float("nan")

    def counts(self) -> tuple[int, int]:
        """Return how many were right and how many counted."""
        return int(self.correct), int(self.counted)

    def add_counts(self, counts: tuple[Any, Any]) -> None:
        """Add counts, whole numbers or 0-d integer arrays."""
        self.correct, self.counted = self.correct + counts[0], self.counted + counts[1]


class Accuracy(_Fraction):
    """Fraction of the samples whose class was found.

    Parameters
    ----------
    ignore_index : int, optional
        Label of rows that do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.training.metrics import Accuracy
    >>> accuracy = Accuracy(ignore_index=-1)
    >>> accuracy.update(np.eye(3), np.array([0, 2, -1]))
    >>> accuracy.result()
    0.5
    """

    name = "accuracy"

    def update(self, y: Array, t: Array) -> None:
        """Count a batch."""
        ignored = None if len(t.shape) == 2 else self.ignore_index  # one-hot rows count all
        tally = find("count_correct", array_namespace(y, t))
        self.correct, self.counted = tally(y, _labels(t), ignored, self.correct, self.counted)


class TopK(_Fraction):
    """Fraction of the samples whose class is among the `k` highest scores.

    A class counts as found if fewer than k scores are above its own, so ties are in its favour. A label that is
    the number of no class is never found.

    Parameters
    ----------
    k : int, default 5
    ignore_index : int, optional
        Label of rows that do not count.

    Raises
    ------
    ValueError
        If k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.training.metrics import TopK
    >>> top = TopK(2)
    >>> top.update(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), np.array([1, 2]))
    >>> top.result()
    0.5
    """

    def __init__(self, k: int = 5, ignore_index: int | None = None) -> None:
        if k < 1:
            raise ValueError(f"TopK: k must be at least 1, got {k!r}")
        self.k = k
        self.name = f"top{k}"
        super().__init__(ignore_index)

    def update(self, y: Array, t: Array) -> None:
        """Count a batch."""
        xp = array_namespace(y, t)
        labels = _labels(t)
        known = (labels >= 0) & (labels < y.shape[1])  # -1 would be looked up as the last class, 255 not at all
        own = xp.take_along_axis(y, xp.expand_dims(xp.where(known, labels, 0), axis=1), axis=1)
        above = xp.sum(xp.astype(~(y <= own), xp.int64), axis=1)  # all, where the own score is NaN
        self._tally(known & (above < self.k), t)


class ClassScores(NamedTuple):
    """How well each class is told from the others, from a confusion matrix; arrays (K,) of float64.

    Attributes
    ----------
    precision : ndarray
        Of the samples taken for the class, the fraction that is of it; NaN if none was.
    recall : ndarray
        Of the samples of the class, the fraction that was found; NaN if there was none.
    f1 : ndarray
        Harmonic mean of both; NaN if a class neither occurs nor was answered.
    support : ndarray of int64
        Samples of the class.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: npt.NDArray[np.int64]

    def table(self, classes: Sequence[str] | None = None) -> str:
        """Return a table with a line for each class.

        Parameters
        ----------
        classes : sequence of str, optional
            Names; by default the class numbers.
        """
        names = [str(k) for k in range(len(self.support))] if classes is None else [str(name) for name in classes]
        rows = [["class", "precision", "recall", "f1", "samples"]]
        for name, p, r, f, n in zip(names, *self, strict=True):
            rows.append([name, f"{p:.4f}", f"{r:.4f}", f"{f:.4f}", f"{n:,d}"])
        return table(rows)


class ConfusionMatrix(Metric):
    """How often samples of each class (rows) were taken for each class (columns): an array (K, K) of int64.

    Parameters
    ----------
    ignore_index : int, optional
        Label of rows that do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.training.metrics import ConfusionMatrix
    >>> matrix = ConfusionMatrix()
    >>> matrix.update(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    >>> matrix.result()
    array([[1, 0],
           [1, 1]])
    >>> matrix.scores().recall
    array([1. , 0.5])
    """

    name = "confusion_matrix"

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._counts: Any = None

    def update(self, y: Array, t: Array) -> None:
        """Count a batch."""
        xp = array_namespace(y, t)
        # counts as a product of one-hot rows: float32 is exact up to 2**24 samples in a batch
        classes = xp.arange(y.shape[1], device=device_of(y))
        labels, kept = _labels(t), _kept(t, self.ignore_index)
        labels = labels if kept is None else xp.where(kept, labels, -1)  # which is no class
        true, found = (
            xp.astype(xp.expand_dims(xp.astype(numbers, classes.dtype), axis=1) == classes, xp.float32)
            for numbers in (labels, xp.argmax(y, axis=1))
        )
        counts = xp.astype(xp.permute_dims(true, (1, 0)) @ found, xp.int64)
        self._counts = counts if self._counts is None else self._counts + counts

    def result(self) -> npt.NDArray[np.int64]:
        """Return the matrix.

        Raises
        ------
        ValueError
            If nothing was counted.
        """
        if self._counts is None:
            raise ValueError("ConfusionMatrix: nothing counted yet; call update(y, t) first")
        return np.asarray(to_numpy(self._counts))

    def counts(self) -> npt.NDArray[np.int64] | None:
        """Return the matrix, or None if nothing was counted."""
        return None if self._counts is None else self.result()

    def add_counts(self, counts: npt.NDArray[np.int64] | None) -> None:
        """Add a matrix."""
        if counts is not None:
            self._counts = counts if self._counts is None else to_numpy(self._counts) + counts

    def scores(self) -> ClassScores:
        """Return precision, recall and F1 of each class."""
        matrix = self.result().astype(np.float64)
        hits, answered, support = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return ClassScores(
                hits / answered, hits / support, 2 * hits / (answered + support), support.astype(np.int64)
            )


def by_name(name: str | Metric, ignore_index: int | None = None) -> Metric:
    """Return the metric of that name ("accuracy", "top5" or any "topK", "confusion_matrix"); a metric passes through.

    Parameters
    ----------
    name : str or Metric
    ignore_index : int, optional
        Label of rows that do not count, for a metric given by name.

    Raises
    ------
    ValueError
        If the name is unknown, or is neither a name nor a metric.

    Examples
    --------
    >>> from xpnet.training import metrics
    >>> metrics.by_name("top3").k
    3
    """
    if isinstance(name, Metric):
        return name
    if isinstance(name, type) and issubclass(name, Metric):
        raise ValueError(f"metrics: {name.__name__} is a class; make a metric of it: {name.__name__}(...)")
    if not isinstance(name, str):
        raise ValueError(f"metrics: expected the name of a metric, such as 'top5', or a Metric, got {name!r}")
    if name.startswith("top") and name[3:].isdecimal():
        return TopK(int(name[3:]), ignore_index)
    known: dict[str, type[Accuracy | ConfusionMatrix]] = {"accuracy": Accuracy, "confusion_matrix": ConfusionMatrix}
    if name not in known:
        raise ValueError(f"metrics: {no_such('metric', name, known)} and top1, top2, ...")
    return known[name](ignore_index)
