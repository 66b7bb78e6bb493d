"""The training loop: epochs of batches, validation, progress, callbacks, and a clean end at Ctrl-C."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from xpnet import losses, optim
from xpnet._interrupt import InterruptGuard
from xpnet.backend import Array, dtype_name, to_numpy
from xpnet.data import Loader
from xpnet.errors import ArgumentError, NonFiniteError
from xpnet.functional.checks import check_positive_int
from xpnet.layers.base import Layer
from xpnet.losses import Loss
from xpnet.optim import LossScale, Optimizer
from xpnet.optim.loss_scale import as_loss_scale
from xpnet.schedules import Schedule, as_schedule
from xpnet.training._trainer_checks import check_data, checked_callbacks, held_out_data
from xpnet.training.alone import Alone
from xpnet.training.callbacks import Callback, Checkpoint
from xpnet.training.captured import CapturedGradients, require_cupy
from xpnet.training.evaluation import Evaluation, named_metrics
from xpnet.training.history import Epoch, History
from xpnet.training.metrics import Metric
from xpnet.training.position import Position
from xpnet.training.progress import ProgressBar, epoch_line, memory_use, skipped
from xpnet.training.shortage import advised
from xpnet.training.step import forward_backward

if TYPE_CHECKING:
    from xpnet.distributed import Communicator

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
    micro_batch : int, optional
        Go through each batch in pieces of so many samples (gradient accumulation): the gradient of the whole
        batch in the memory of one piece. Equal to rounding, except that batch normalisation sees each
        piece alone.
    loss_scale : str, float, LossScale or None, default "auto"
        Factor on the loss, so that float16 does not round small gradients to zero: ``"dynamic"`` finds it
        (`xpnet.optim.DynamicLossScale`), a number stays. ``"auto"`` is dynamic for a model in float16, else None.
    seed : int, default 0
        Of the order of the samples, and of the weights of a model not built yet.
    schedule : Schedule or function of the epoch, optional
        Sets ``optimizer.lr``: before each epoch, at the position of the epochs in `history`, or with
        ``every="update"`` before each update, at ``optimizer.step``; so a run that goes on with history
        and optimizer restored goes on with the rates too. After each epoch it observes the loss (or
        accuracy), that of the validation if there is any.

    metrics : sequence of str or Metric, optional
        What else to measure on the validation data, such as ``("top5", "confusion_matrix")``; the results stand
        in the history under ``validation_metrics``, and ``history["top5"]`` has them too. Those given by name
        leave out the rows that the loss leaves out.
    callbacks : sequence of Callback, optional
        Called in this order, `Checkpoint` last.
    communicator : Communicator, optional
        Of the ranks that train together, each with its share of every batch; see `xpnet.distributed`. Batch sizes
        are those of all ranks together.
    cuda_graph : bool, default False
        With CuPy: launch forward, loss and backward of a step as one CUDA graph, recorded at the second batch of a
        shape. For models whose steps are shorter than it takes to launch their kernels one by one; costs the
        memory of a step for each shape of batch. See `xpnet.training.CapturedGradients`.

    Attributes
    ----------
    history : History
        Of all calls of `fit`.
    metrics : dict of str to Metric
    ending : bool
        Whether the epoch under way is the last of this call of `fit`.

    Raises
    ------
    ValueError
        If model is no layer, a callback or a metric is none, a name is unknown, micro_batch is no whole number from 1
        on, or cuda_graph goes with another library than CuPy or with a communicator.

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
        micro_batch: int | None = None,
        loss_scale: str | float | LossScale | None = "auto",
        seed: int = 0,
        schedule: Schedule | Callable[[int], float] | None = None,
        metrics: Sequence[str | Metric] = (),
        callbacks: Sequence[Callback] = (),
        communicator: Communicator | None = None,
        cuda_graph: bool = False,
    ) -> None:
        if not isinstance(model, Layer):
            raise ArgumentError("Trainer", f"model must be a layer, such as a Sequential, got {model!r}")
        if micro_batch is not None:
            micro_batch = check_positive_int("Trainer", "micro_batch", micro_batch)
        if cuda_graph:
            require_cupy(model)
            if communicator is not None:
                raise ValueError(
                    "Trainer: cuda_graph=True is for one process, since several exchange sums within a step; "
                    "leave out cuda_graph or the communicator"
                )
        self.model = model
        self.loss = losses.by_name(loss)
        self.optimizer = optim.by_name(optimizer)
        self.batch_size = batch_size
        self.micro_batch = micro_batch
        self._loss_scale = loss_scale if loss_scale == "auto" else as_loss_scale(loss_scale)
        self.seed = seed
        self.schedule = None if schedule is None else as_schedule(schedule)
        self.metrics = named_metrics(metrics, self.loss)
        self.callbacks = sorted(checked_callbacks(callbacks), key=lambda callback: isinstance(callback, Checkpoint))
        self.history = History()
        self.position = Position()
        self.parallel = Alone() if communicator is None else _data_parallel(communicator)
        self._captured = CapturedGradients() if cuda_graph else None
        self._last = 0
        self._stop: str | None = None
        self._interrupted = False

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        epochs: int | None = None,
        until: int | None = None,
        validation_samples: int | None = None,
        verbose: bool = True,
    ) -> History:
        """Train for a number of epochs.

        Ctrl-C ends the run after the step under way: the weights are those of the last whole step, the
        history says that it was interrupted, and the next call goes on with the rest of that epoch. A second
        Ctrl-C raises at once. SIGTERM is left to the program, whose handler may call `stop`; the command line takes it
        for a Ctrl-C.

        Parameters
        ----------
        train : Loader, or (x, t)
            Arrays are shuffled anew in each epoch; the last short batch is kept.
        validation : Loader, or (x, t), optional
            Measured after each epoch; a loader's `epoch` is set to that of the training.
        epochs : int, optional
            How many more; by default 1. An epoch that was broken off counts as one.
        until : int, optional
            Instead of `epochs`: the number of the last epoch, counted from the first of the history. A run that
            is resumed from a checkpoint goes on to the same end.
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
            If epochs, until or validation_samples is no whole number from 1 on, or both of the first two are given; or
            if the data are no pair and no Loader.
        """
        self._last = self._last_epoch(epochs, until)
        check_data("train", train)
        if validation is not None:
            check_data("validation", validation)
        loader = train if isinstance(train, Loader) else self._loader(*train)
        held_out = held_out_data(validation, validation_samples)
        if not self.model.built:
            self.model.build(loader.sample_shape, rng=self.seed)
        self.parallel.begin(self, loader, held_out)
        self._last = self._last_epoch(epochs, until)  # by the history that rank 0 may have brought
        self.history.interrupted, self.history.stopped, self._stop = False, None, None
        error: BaseException | None = None
        with InterruptGuard() as interrupt:
            try:
                self._call("on_fit_begin")
                self._agree(interrupt)
                while len(self.history) < self._last and self._stop is None and not self.history.interrupted:
                    self._epoch(loader, held_out, interrupt, verbose)
                self.history.stopped = self._stop
            except BaseException as raised:
                self.position = Position()
                error = raised
                raise
            finally:
                self.parallel.end(loader)
                if self._captured is not None:
                    self._captured.clear()
                self._call("on_fit_end", error)
        return self.history

    def evaluate(
        self, data: Any, *, metrics: Sequence[str | Metric] | None = None, batch_size: int = 256
    ) -> Evaluation:
        """Measure the model on ``(x, t)`` or a Loader, by default with the trainer's metrics; see `evaluate`."""
        wanted = list(self.metrics.values()) if metrics is None else metrics
        return self.parallel.evaluate(self, data, metrics=wanted, batch_size=batch_size)

    @property
    def loss_scale(self) -> LossScale | None:
        """The loss scale, with its value now and the number of skipped steps; None without one, or before build."""
        if self._loss_scale == "auto" and self.model.built:
            types = {dtype_name(p.data.dtype) for p in self.model.parameters()}
            self._loss_scale = as_loss_scale("dynamic" if "float16" in types else None)
        return self._loss_scale if isinstance(self._loss_scale, LossScale) else None

    @property
    def forward_backward(self) -> Callable[..., tuple[Array, Array]]:
        """What sets the gradients of the model by a batch: `forward_backward`, or with cuda_graph what replays it."""
        return forward_backward if self._captured is None else self._captured

    @property
    def scale(self) -> float:
        """What the loss is multiplied by now."""
        return 1.0 if self.loss_scale is None else self.loss_scale.value

    def stop(self, reason: str) -> None:
        """End the run after the step or epoch under way; for callbacks."""
        self._stop = reason

    @property
    def ending(self) -> bool:
        """Whether `fit` ends with the epoch under way."""
        return self._stop is not None or len(self.history) >= self._last

    def _last_epoch(self, epochs: int | None, until: int | None) -> int:
        if epochs is not None and until is not None:
            raise ValueError(f"Trainer.fit: give epochs ({epochs}) or until ({until}), not both")
        name, value = ("until", until) if until is not None else ("epochs", 1 if epochs is None else epochs)
        value = check_positive_int("Trainer.fit", name, value)
        return value if name == "until" else len(self.history) + value

    def _call(self, hook: str, *args: Any) -> None:
        for callback in reversed(self.callbacks) if hook == "on_fit_end" else self.callbacks:
            if self.parallel.is_root or not callback.writes:
                getattr(callback, hook)(self, *args)

    def _agree(self, interrupt: InterruptGuard) -> None:
        self._interrupted, self._stop = self.parallel.agree(interrupt.requested, self._stop)

    def enter(self, phase: str) -> None:
        """Tell the callbacks that watch it that a phase begins; see `Callback.on_phase`."""
        for callback in self._watching:
            callback.on_phase(self, phase)

    @property
    def _watching(self) -> list[Callback]:
        return [c for c in self.callbacks if type(c).on_phase is not Callback.on_phase]

    def _epoch(self, loader: Loader, held_out: Any, interrupt: InterruptGuard, verbose: bool) -> None:
        """Train for one epoch, or what is left of it, measure and record it."""
        number = len(self.history) + 1
        self._set_rate("epoch", len(self.history))
        title = f"epoch {number}/{self._last}"
        verbose = verbose and self.parallel.is_root
        if not self._learn(loader, title, interrupt, verbose):
            self.history.interrupted = self._interrupted
            return
        trained = self.position.means.read()
        if not math.isfinite(trained.loss):
            raise NonFiniteError(
                "Trainer.fit",
                f"the loss of {title} is {trained.loss}; lower the learning rate (now {self.optimizer.lr}), "
                "or check the data for NaN and for labels out of range",
            )
        measured = None
        if held_out is not None:
            self.enter("validation")
            if isinstance(held_out, Loader) and held_out is not loader:
                held_out.epoch = number - 1  # so that a resumed run measures what the unbroken one would have
            measured = self.evaluate(held_out)
        epoch = self._measured_epoch(number, trained, measured)
        previous = self.history.epochs[-1] if self.history.epochs else None
        self.history.epochs.append(epoch)
        self.position = Position(loader=self.position.loader, epoch=loader.epoch)
        self._observe(epoch)
        if verbose:
            print(epoch_line(epoch, self._last, previous), flush=True)
        self.enter("callbacks")
        self._call("on_epoch", epoch)
        self.parallel.end_epoch(self)
        self._agree(interrupt)
        self.history.interrupted = self._interrupted and not self.ending

    def _measured_epoch(self, number: int, trained: Evaluation, measured: Evaluation | None) -> Epoch:
        """Return the record of the epoch that has just been learnt."""
        position = self.position
        return Epoch(
            number,
            trained.loss,
            trained.accuracy,
            None if measured is None else measured.loss,
            None if measured is None else measured.accuracy,
            self.optimizer.lr,
            position.seconds,
            position.means.samples / position.seconds,
            {} if measured is None else {name: _plain(value) for name, value in measured.metrics.items()},
            position.skipped,
        )

    def _learn(self, loader: Loader, title: str, interrupt: InterruptGuard, verbose: bool) -> bool:
        """Take the steps of an epoch that are still to be taken; False if something ended it early."""
        position = self.position = self.position.at(loader, self.loss)
        start = time.perf_counter() - position.seconds
        with ProgressBar(title, len(loader), done=position.batch, show=verbose) as bar:
            for x, t in self._batches(loader, position.batch):
                self._step(x, t, position)
                position.batch += 1
                position.seconds = time.perf_counter() - start
                bar.advance()
                if bar.due():
                    rate = position.means.samples / position.seconds
                    bar.show(position.means.read(), rate, skipped(position.skipped), memory_use())
                if self.callbacks:
                    self.enter("callbacks")
                    self._call("on_update")
                self._agree(interrupt)
                if (self._interrupted or self._stop is not None) and position.batch < len(loader):
                    return False
        position.means.read()  # so that the time is that of the work and not of sending it
        position.seconds = time.perf_counter() - start
        return True

    def _batches(self, loader: Loader, start: int) -> Iterator[tuple[Array, Array]]:
        """Yield the batches from number `start` on, saying when one is waited for."""
        if start == len(loader):  # resumed between the last step of an epoch and its end
            loader.epoch += 1
            return
        batches = loader.iterate(start)
        while True:
            self.enter("data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def _step(self, x: Array, t: Array, position: Position) -> None:
        scale = self.loss_scale
        before = 0 if scale is None else scale.skipped
        with advised(self.model, self.optimizer, x, self.micro_batch):
            self.parallel.learn(self, x, t, position)
            self.enter("update")
            self._set_rate("update", self.optimizer.step)
            self.optimizer.update(self.model, loss_scale=scale)
        position.skipped += 0 if scale is None else scale.skipped - before

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


def _data_parallel(communicator: Communicator) -> Alone:
    from xpnet.distributed import DataParallel  # which itself needs this package

    return DataParallel(communicator)


def _plain(result: Any) -> Any:
    """Return the result of a metric as JSON can hold it: an array, or a number of an array library, as Python's own."""
    return to_numpy(result).tolist() if hasattr(result, "shape") else result
