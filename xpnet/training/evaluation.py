"""Inference over a whole data set in batches: losses, metrics, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnet import losses
from xpnet.backend import Array, array_namespace
from xpnet.data import Loader
from xpnet.functional.checks import check_positive_int
from xpnet.kernels import find
from xpnet.layers.base import Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.training import metrics
from xpnet.training.metrics import Accuracy, Metric
from xpnet.training.step import is_nothing

__all__ = ["Evaluation", "Means", "batches", "count", "evaluate", "named_metrics", "predict", "read"]


def batches(x: Any, t: Any, batch_size: int) -> Iterator[tuple[Array, Array | None]]:
    """Yield batches in order: NumPy data go to the selected backend, other arrays are sliced where they are."""
    batch_size = check_positive_int("evaluate", "batch_size", batch_size)
    if isinstance(x, np.ndarray):
        labels = np.zeros(len(x), dtype=np.int64) if t is None else t
        for batch, target in Loader(x, labels, batch_size=batch_size, shuffle=False, on_device=False):
            yield batch, None if t is None else target
        return
    if x.shape[0] == 0 or (t is not None and t.shape[0] != x.shape[0]):
        found = "no labels" if t is None else f"{t.shape[0]} labels"
        raise ValueError(f"expected at least one sample and as many labels, got {x.shape[0]} samples and {found}")
    for start in range(0, x.shape[0], batch_size):
        part = slice(start, min(start + batch_size, x.shape[0]))
        yield x[part, ...], None if t is None else t[part, ...]


class Evaluation(NamedTuple):
    """What a model was measured to do on a data set.

    Attributes
    ----------
    loss : float
        Mean over the samples, by their weights if the loss has any.
    accuracy : float or None
        Fraction of samples whose class was found, without rows that the loss leaves out; None where the
        loss is not one of classification.
    metrics : mapping of str to result
        Of the metrics asked for, by name.
    """

    loss: float
    accuracy: float | None
    metrics: Mapping[str, Any] = {}


class Means:
    """Mean loss and accuracy over batches, summed on the device and read when somebody looks.

    Attributes
    ----------
    samples : int
        Seen so far.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.samples = 0
        self._total: Any = 0.0
        self._weight: Any = 0.0
        self._accuracy = Accuracy(loss.ignore_index) if isinstance(loss, SoftmaxCrossEntropy) else None

    def add(self, value: Array, y: Array, t: Array) -> None:
        """Count a batch whose loss is `value`."""
        weight = self.loss.weight(y, t)
        self._total = find("add_product", array_namespace(y))(self._total, value, weight)
        self._weight = self._weight + weight
        if self._accuracy is not None:
            self._accuracy.update(y, t)
        self.samples += y.shape[0]

    def sums(self) -> tuple[Any, Any, Any, Any, int]:
        """Return the sums behind the means: loss, weight, samples found and looked at for the accuracy, samples."""
        correct, counted = (0, 0) if self._accuracy is None else (self._accuracy.correct, self._accuracy.counted)
        return self._total, self._weight, correct, counted, self.samples

    def include(self, total: Any, weight: Any, correct: Any, counted: Any, samples: int) -> None:
        """Add the sums of other batches, or of other processes."""
        self._total, self._weight = self._total + total, self._weight + weight
        if self._accuracy is not None:
            self._accuracy.add_counts((correct, counted))
        self.samples += samples

    def read(self) -> Evaluation:
        """Return the means; on a GPU this waits for it."""
        accuracy = None if self._accuracy is None else self._accuracy.result()
        return Evaluation(float(self._total) / float(self._weight), accuracy)

    def state_dict(self) -> dict[str, float | int]:
        """Return the sums as plain numbers, for a run that is to go on in mid-epoch."""
        state: dict[str, float | int] = {
            "samples": self.samples,
            "total": float(self._total),
            "weight": float(self._weight),
        }
        if self._accuracy is not None:
            state |= {"correct": int(self._accuracy.correct), "counted": int(self._accuracy.counted)}
        return state

    def load_state_dict(self, state: Mapping[str, float | int]) -> None:
        """Take over what `state_dict` returned."""
        self.samples, self._total, self._weight = int(state["samples"]), float(state["total"]), float(state["weight"])
        if self._accuracy is not None:
            self._accuracy.correct, self._accuracy.counted = int(state["correct"]), int(state["counted"])


def evaluate(
    model: Layer,
    data: Any,
    *,
    loss: str | Loss = "softmax_cross_entropy",
    metrics: Sequence[str | Metric] = (),
    batch_size: int = 256,
) -> Evaluation:
    """Measure a model on a data set, without learning.

    Parameters
    ----------
    model : Layer
    data : Loader, or (x, t)
        Pairs of NumPy arrays go in batches to the selected backend (uint8 divided by 255, as `Loader`
        does); pairs of other arrays are used where they are.
    loss : str or Loss, default "softmax_cross_entropy"
    metrics : sequence of str or Metric, optional
        What else to measure, such as ``("top5", "confusion_matrix")``; see `xpnet.training.metrics`. Those given
        by name leave out the rows that the loss leaves out.
    batch_size : int, default 256
        For pairs; it bounds the memory and changes nothing else.

    Returns
    -------
    Evaluation
        ``loss``, ``accuracy`` (None where the loss is not one of classification) and ``metrics``, by name.

    Raises
    ------
    ValueError
        If a name is unknown, or no sample counts.
    OperationError
        If data and model do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import evaluate
    >>> model = Dense(2, init="zeros").build((3,))
    >>> data = np.ones((4, 3), np.float32), np.array([0, 0, 0, 1])
    >>> measured = evaluate(model, data, metrics=["confusion_matrix"])
    >>> measured.accuracy
    0.75
    >>> measured.metrics["confusion_matrix"]
    array([[3, 0],
           [1, 0]])
    """
    measure = losses.by_name(loss)
    more = named_metrics(metrics, measure)
    means = count(
        model, data if isinstance(data, Loader) else batches(data[0], data[1], batch_size), measure, more.values()
    )
    return read(means, more)


def count(model: Layer, given: Iterable[tuple[Array, Any]], loss: Loss, metrics: Iterable[Metric]) -> Means:
    """Run the model over batches; return the sums of their losses, and let the metrics count from 0 on."""
    more = list(metrics)
    means = Means(loss)
    for metric in more:
        metric.reset()
    for x, t in given:
        y = model.predict(x)
        for metric in more:
            metric.update(y, t)
        if not is_nothing(loss.weight(y, t)):
            means.add(loss(y, t), y, t)
    return means


def read(means: Means, metrics: Mapping[str, Metric]) -> Evaluation:
    """Return what has been counted; ValueError if no sample counts."""
    if not means.samples:
        raise ValueError("evaluate: no sample counts: all are left out or weigh nothing")
    return means.read()._replace(metrics={name: metric.result() for name, metric in metrics.items()})


def named_metrics(wanted: Sequence[str | Metric], loss: Loss) -> dict[str, Metric]:
    """Return metrics by name; ValueError for unknown names and for two of one name.

    Those given by name leave out the rows that the loss leaves out.
    """
    if isinstance(wanted, str | Metric) or not isinstance(wanted, Iterable):
        raise ValueError(f"metrics: expected a list of names and metrics, got {wanted!r}; put it in brackets")
    ignore_index = loss.ignore_index if isinstance(loss, SoftmaxCrossEntropy) else None
    found: dict[str, Metric] = {}
    for item in wanted:
        metric = metrics.by_name(item, ignore_index)
        if metric.name in found:
            raise ValueError(f"metrics: {metric.name!r} is there twice; give one of them another name")
        found[metric.name] = metric
    return found


def predict(model: Layer, x: Any, *, batch_size: int = 256) -> Array:
    """Run a model over many samples in batches, for inference.

    Parameters
    ----------
    model : Layer
    x : array (N, ...)
        NumPy arrays go in batches to the selected backend (uint8 divided by 255, as `Loader` does);
        other arrays are used where they are.
    batch_size : int, default 256

    Returns
    -------
    y : array (N, ...)
        On the model's backend.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import predict
    >>> predict(Dense(2).build((3,)), np.ones((1000, 3), np.float32)).shape
    (1000, 2)
    """
    parts = [model.predict(batch) for batch, _ in batches(x, None, batch_size)]
    return array_namespace(parts[0]).concat(parts, axis=0)
