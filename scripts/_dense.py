"""What the scripts that compare settings share: the book's dense network, its training, and curves of what came out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from _common import new_figure

from xpnet.data import Dataset, Loader
from xpnet.errors import NonFiniteError
from xpnet.init import Initializer
from xpnet.layers import Dense, Flatten, Layer, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import Optimizer
from xpnet.training import train_step


def dense_network(
    classes: int,
    *,
    hidden: int,
    units: int = 100,
    init: str | Initializer = "he_normal",
    after: Callable[[], Sequence[Layer]] = tuple,
) -> Sequential:
    """Return `hidden` dense layers with relu and one for the classes; `after` makes what follows each hidden one."""
    layers: list[Layer] = [Flatten()]
    for _ in range(hidden):
        extra = list(after())
        layers += [Dense(units, init=init, activation=None if extra else "relu"), *extra]
    return Sequential(*layers, Dense(classes, init=init))


def train_losses(
    model: Layer, optimizer: Optimizer, data: Dataset, *, steps: int, batch_size: int, seed: int
) -> list[float]:
    """Train for a number of steps and return the loss of each."""
    losses: list[Any] = []
    loss = SoftmaxCrossEntropy()
    for x, t in itertools.islice(_batches(Loader(*data.train, batch_size=batch_size, seed=seed)), steps):
        losses.append(train_step(model, loss, optimizer, x, t))
    values = [float(value) for value in losses]
    if not all(map(math.isfinite, values)):  # on a device nobody has looked at them so far
        raise NonFiniteError("train_losses", f"the loss of {optimizer!r} is no longer finite; lower the learning rate")
    return values


def _batches(loader: Loader) -> Iterator[tuple[Any, Any]]:
    while True:
        yield from loader


def plot_losses(losses: Mapping[str, Sequence[float]], *, window: int = 10) -> Any:
    """Draw loss curves, each a running mean over `window` steps."""
    figure = new_figure(6.4, 4.2)
    ax = figure.add_subplot()
    for name, values in losses.items():
        means = [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
        ax.plot(range(1, len(means) + 1), means, label=name)
    ax.set_xlabel("step")
    ax.set_ylabel(f"training loss, mean of {window} steps")
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure
