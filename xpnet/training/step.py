"""One training step, and inference over a whole data set in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from xpnet import losses
from xpnet.backend import Array, array_namespace
from xpnet.data import Loader
from xpnet.layers.base import Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.optim import Optimizer

__all__ = ["Evaluation", "batches", "count_correct", "evaluate", "forward_backward", "predict", "train_step"]


def train_step(model: Layer, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
    """Learn from one batch: forward, loss, backward, update.

    Nothing here waits for a device: on a GPU, reading the returned loss does.

    Parameters
    ----------
    model : Layer
    loss : Loss
    optimizer : Optimizer
    x : array (N, ...)
        On the model's backend and of its float type.
    t : array (N,) or (N, K)
        Labels or targets.

    Returns
    -------
    loss : array, 0-d
        Of the batch, before the update.

    Raises
    ------
    OperationError
        If the arrays do not fit the model or the loss is not finite; the weights are not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.losses import SoftmaxCrossEntropy
    >>> from xpnet.optim import SGD
    >>> from xpnet.training import train_step
    >>> x, t = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> model, loss, optimizer = Dense(2).build((2,)), SoftmaxCrossEntropy(), SGD(lr=1.0)
    >>> first, *_, last = [float(train_step(model, loss, optimizer, x, t)) for _ in range(20)]
    >>> last < first
    True
    """
    value, _ = forward_backward(model, loss, x, t)
    optimizer.update(model)
    return value


def forward_backward(model: Layer, loss: Loss, x: Array, t: Array) -> tuple[Array, Array]:
    """Set the gradients of the model for one batch; return the loss and the model's output."""
    try:
        y = model.forward(x, train=True)
        value = loss.forward(y, t)
        model.zero_grad()
        model.backward(loss.backward(), need_dx=False)
    except BaseException:
        model.forget()  # so that the next step does not meet what this one left
        raise
    return value, y


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
    labels = xp.argmax(t, axis=1) if len(t.shape) == 2 else t
    return xp.sum(xp.astype(xp.argmax(y, axis=1) == xp.astype(labels, xp.int64), xp.int64))


def batches(x: Any, t: Any, batch_size: int) -> Iterator[tuple[Array, Array | None]]:
    """Yield batches in order: NumPy data go to the selected backend, other arrays are sliced where they are."""
    if isinstance(x, np.ndarray):
        labels = np.zeros(len(x), dtype=np.int64) if t is None else t
        for batch, target in Loader(x, labels, batch_size=batch_size, shuffle=False):
            yield batch, None if t is None else target
        return
    if x.shape[0] == 0 or (t is not None and t.shape[0] != x.shape[0]):
        found = "no labels" if t is None else f"{t.shape[0]} labels"
        raise ValueError(f"expected at least one sample and as many labels, got {x.shape[0]} samples and {found}")
    for start in range(0, x.shape[0], batch_size):
        part = slice(start, min(start + batch_size, x.shape[0]))
        yield x[part, ...], None if t is None else t[part, ...]


class Evaluation(NamedTuple):
    """Mean loss and, for classification, the fraction of samples whose class was found."""

    loss: float
    accuracy: float | None


def evaluate(
    model: Layer, data: Any, *, loss: str | Loss = "softmax_cross_entropy", batch_size: int = 256
) -> Evaluation:
    """Measure a model on a data set, without learning.

    Parameters
    ----------
    model : Layer
    data : Loader, or (x, t)
        Pairs of NumPy arrays go in batches to the selected backend (uint8 divided by 255, as `Loader`
        does); pairs of other arrays are used where they are.
    loss : str or Loss, default "softmax_cross_entropy"
    batch_size : int, default 256
        For pairs; it bounds the memory and changes nothing else.

    Returns
    -------
    Evaluation
        ``(loss, accuracy)``; accuracy is None where the loss is not one of classification.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import evaluate
    >>> model = Dense(2, init="zeros").build((3,))
    >>> evaluate(model, (np.ones((4, 3), np.float32), np.array([0, 0, 0, 1]))).accuracy
    0.75
    """
    measure = losses.by_name(loss)
    total: Any = 0.0
    correct: Any = 0
    samples = 0
    pairs = data if isinstance(data, Loader) else batches(data[0], data[1], batch_size)
    for x, t in pairs:
        y = model.predict(x)
        total = total + measure(y, t) * x.shape[0]
        if isinstance(measure, SoftmaxCrossEntropy):
            correct = correct + count_correct(y, t)
        samples += x.shape[0]
    accuracy = int(correct) / samples if isinstance(measure, SoftmaxCrossEntropy) else None
    return Evaluation(float(total) / samples, accuracy)


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
