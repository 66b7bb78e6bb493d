"""The training loop: epochs of batches, validation, progress, and a clean end at Ctrl-C."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from xpnet import losses, optim
from xpnet.data import Loader
from xpnet.errors import NonFiniteError
from xpnet.layers.base import Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.optim import Optimizer
from xpnet.schedules import Schedule, as_schedule
from xpnet.training.history import Epoch, History
from xpnet.training.interrupt import InterruptGuard
from xpnet.training.progress import ProgressBar, epoch_line
from xpnet.training.step import Evaluation, count_correct, evaluate, forward_backward

__all__ = ["Trainer"]


class Trainer:
    """Trains a model.

    Parameters
    ----------
    model : Layer
        Built, or to be built by its first batch.
    loss : str or Loss, default "softmax_cross_entropy"
    optimizer : str or Optimizer, default "adam"
    batch_size : int, default 64
        For data given as arrays.
    seed : int, default 0
        Of the order of the samples, and of the weights of a model not built yet.
    schedule : Schedule or function of the epoch, optional
        Sets ``optimizer.lr``: before each epoch, at the position of the epochs in `history`, or with
        ``every="update"`` before each update, at ``optimizer.step``; so a run that goes on with history
        and optimizer restored goes on with the rates too. After each epoch it observes the loss (or
        accuracy), that of the validation if there is any.

    Attributes
    ----------
    history : History
        Of all calls of `fit`.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import Trainer
    >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    >>> t = (x[:, 0] > x[:, 1]).astype(np.int64)
    >>> trainer = Trainer(Dense(2), optimizer="adam", batch_size=20)
    >>> trainer.optimizer.lr = 0.1
    >>> history = trainer.fit((x, t), epochs=5, verbose=False)
    >>> history["accuracy"][-1] > 0.9
    True
    """

    def __init__(
        self,
        model: Layer,
        *,
        loss: str | Loss = "softmax_cross_entropy",
        optimizer: str | Optimizer = "adam",
        batch_size: int = 64,
        seed: int = 0,
        schedule: Schedule | Callable[[int], float] | None = None,
    ) -> None:
        self.model = model
        self.loss = losses.by_name(loss)
        self.optimizer = optim.by_name(optimizer)
        self.batch_size = batch_size
        self.seed = seed
        self.schedule = None if schedule is None else as_schedule(schedule)
        self.history = History()

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        epochs: int = 1,
        validation_samples: int | None = None,
        verbose: bool = True,
    ) -> History:
        """Train for a number of epochs.

        Ctrl-C ends the run after the step under way: the weights are those of the last whole step, and
        the history says that it was interrupted. A second Ctrl-C raises at once.

        Parameters
        ----------
        train : Loader, or (x, t)
            Arrays are shuffled anew in each epoch; the last short batch is kept.
        validation : Loader, or (x, t), optional
            Measured after each epoch.
        epochs : int, default 1
            How many more.
        validation_samples : int, optional
            Measure on the first so many samples of `validation` only (not for a Loader).
        verbose : bool, default True
            A progress bar if standard error is a terminal, and a line for each epoch.

        Returns
        -------
        History

        Raises
        ------
        OperationError
            If data and model do not fit, or the loss is no longer finite.
        ValueError
            If epochs is below 1.
        """
        if epochs < 1:
            raise ValueError(f"Trainer.fit: epochs must be at least 1, got {epochs!r}")
        loader = train if isinstance(train, Loader) else self._loader(*train)
        held_out = _first(validation, validation_samples)
        if not self.model.built:
            self.model.build(_sample_shape(train, loader), rng=self.seed)
        first, last = len(self.history) + 1, len(self.history) + epochs
        self.history.interrupted = False
        with InterruptGuard() as interrupt:
            for number in range(first, last + 1):
                self._set_rate("epoch", len(self.history))
                done = self._epoch(loader, f"epoch {number}/{last}", interrupt, verbose)
                if done is None:
                    self.history.interrupted = True
                    break
                seconds, samples, trained = done
                measured = self.evaluate(held_out) if held_out is not None else Evaluation(math.nan, None)
                epoch = Epoch(
                    number,
                    trained.loss,
                    trained.accuracy,
                    None if held_out is None else measured.loss,
                    measured.accuracy,
                    self.optimizer.lr,
                    seconds,
                    samples / seconds,
                )
                previous = self.history.epochs[-1] if self.history.epochs else None
                self.history.epochs.append(epoch)
                self._observe(epoch)
                if verbose:
                    print(epoch_line(epoch, last, previous), flush=True)
                if interrupt.requested:
                    self.history.interrupted = number < last
                    break
        return self.history

    def evaluate(self, data: Any, *, batch_size: int = 256) -> Evaluation:
        """Measure the model on ``(x, t)`` or a Loader; see `xpnet.training.evaluate`."""
        return evaluate(self.model, data, loss=self.loss, batch_size=batch_size)

    def _set_rate(self, every: str, position: int) -> None:
        if self.schedule is not None and self.schedule.every == every:
            self.optimizer.lr = self.schedule(position)

    def _observe(self, epoch: Epoch) -> None:
        if self.schedule is None:
            return
        watch = self.schedule.watch
        measured = getattr(epoch, f"validation_{watch}")
        value = getattr(epoch, watch) if measured is None else measured
        if value is None:
            raise ValueError(f"Trainer.fit: the schedule watches the {watch}, but this loss has none; watch 'loss'")
        self.schedule.observe(value)

    def _loader(self, x: Any, t: Any) -> Loader:
        loader = Loader(x, t, batch_size=self.batch_size, seed=self.seed)
        loader.epoch = len(self.history)
        return loader

    def _epoch(
        self, loader: Loader, title: str, interrupt: InterruptGuard, verbose: bool
    ) -> tuple[float, int, Evaluation] | None:
        """Train for one epoch: seconds, samples and means; None if it was interrupted."""
        classifies = isinstance(self.loss, SoftmaxCrossEntropy)
        total: Any = 0.0  # stay on the device until somebody looks
        correct: Any = 0
        samples = 0

        def means() -> Evaluation:
            return Evaluation(float(total) / samples, int(correct) / samples if classifies else None)

        start = time.perf_counter()
        with ProgressBar(title, len(loader), show=verbose) as bar:
            for x, t in loader:
                value, y = forward_backward(self.model, self.loss, x, t)
                self._set_rate("update", self.optimizer.step)
                self.optimizer.update(self.model)
                total = total + value * x.shape[0]
                if classifies:
                    correct = correct + count_correct(y, t)
                samples += x.shape[0]
                bar.advance()
                if bar.due():
                    bar.show(*means(), samples)
                if interrupt.requested and samples < loader.samples:
                    return None
        result = means()
        seconds = time.perf_counter() - start
        if not math.isfinite(result.loss):
            raise NonFiniteError(
                "Trainer.fit",
                f"the loss of {title} is {result.loss}; lower the learning rate (now {self.optimizer.lr}), "
                "or check the data for NaN and for labels out of range",
            )
        return seconds, samples, result


def _first(data: Any, samples: int | None) -> Any:
    if data is None or isinstance(data, Loader) or samples is None:
        return data
    x, t = data
    return x[:samples, ...], t[:samples, ...]


def _sample_shape(train: Any, loader: Loader) -> tuple[int, ...]:
    return loader.sample_shape if isinstance(train, Loader) else tuple(train[0].shape[1:])
