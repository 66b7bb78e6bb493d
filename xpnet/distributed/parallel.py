"""Training in data parallel: every rank has the whole model and learns from its share of every batch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.data import Loader
from xpnet.data.share import PADDING, Share, bounds
from xpnet.distributed.agreement import check_agreement, check_weights, describe
from xpnet.distributed.communicator import Communicator
from xpnet.distributed.sync_norm import SyncBatchNorm
from xpnet.layers.base import Layer
from xpnet.layers.state import moving
from xpnet.training.alone import Alone
from xpnet.training.checkpoint import capture, restore
from xpnet.training.evaluation import Evaluation, Means, batches, count, named_metrics, read
from xpnet.training.step import divide_gradients, is_nothing, is_plain, overflows_at

if TYPE_CHECKING:
    from xpnet.training.position import Position
    from xpnet.training.trainer import Trainer

__all__ = ["DataParallel"]


class DataParallel(Alone):
    """What `Trainer` does with a communicator: the gradient of the whole batch, each rank with its share of it.

    The result is that of one process with the whole batch, to rounding: the shares may be uneven and samples may
    weigh differently. Only what looks at a batch as a whole sees a rank's share: `BatchNorm` (not `SyncBatchNorm`),
    dropout masks and random changes to images, which differ from rank to rank.

    Parameters
    ----------
    comm : Communicator

    Notes
    -----
    A step is one sum of the flat gradient buffer and one of a few numbers: loss, accuracy, and the statistics of
    `BatchNorm`, averaged by the samples of the ranks, so that all ranks are the same after every step and any of them
    could save the run. Gradients are exchanged after backward: with MPI on CPU cores, sending parts during backward
    was measured to bring nothing, since it is the same cores that compute and copy.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.is_root = comm.is_root
        self._loader: Loader | None = None

    # --- before and after --------------------------------------------------------------------------

    def begin(self, trainer: Trainer, loader: Loader, held_out: Any) -> None:
        """Check that the ranks fit together, give all of them rank 0's state, and the loader its share.

        Raises
        ------
        DistributedError
            If ranks differ in model, data, settings or version, with both values.
        ValueError
            If a batch has fewer samples than there are ranks.
        """
        check_agreement(self.comm, describe(trainer, loader, held_out))
        if min(loader.batch_size, loader.samples) < self.comm.size:
            raise ValueError(
                f"{self.comm.size} ranks cannot share a batch of {min(loader.batch_size, loader.samples)} samples; "
                "take a larger batch_size, which counts the samples of all ranks, or fewer ranks"
            )
        state = self.comm.broadcast_object(_on_host(capture(trainer)) if self.is_root else None)
        if state is not None and not self.is_root:
            restore(trainer, state)
            _draw_differently(trainer.model, self.comm.rank)
        loader.share = Share(self.comm.rank, self.comm.size, trainer.micro_batch)
        self._loader = loader

    def end(self, loader: Loader) -> None:
        """Leave the loader as it was given to `fit`."""
        loader.share = None

    def end_epoch(self, trainer: Trainer) -> None:
        """Check that all ranks have the same weights, to the bit."""
        check_weights(self.comm, trainer.model)

    def agree(self, interrupted: bool, stop: str | None) -> tuple[bool, str | None]:
        """Return whether any rank wants to end the run, and for what reason."""
        if not self.comm.any(interrupted or stop is not None):
            return False, None
        wishes = self.comm.gather_objects((interrupted, stop))
        return any(i for i, _ in wishes), next((reason for _, reason in wishes if reason is not None), None)

    # --- a step ------------------------------------------------------------------------------------

    def learn(self, trainer: Trainer, x: Array, t: Array, position: Position) -> None:
        """Set the gradients of the model, on all ranks, by a batch of which each rank has its share."""
        loader, model = self._loader, trainer.model
        assert loader is not None
        assert loader.share is not None
        N = min(loader.batch_size, loader.samples - position.batch * loader.batch_size)
        sizes = loader.share.sizes(N)
        means = Means(trainer.loss)
        put_back = moving(model)
        try:
            self._gradients(trainer, x, t, sizes, N, means)
        except BaseException:
            model.forget()
            put_back()
            raise
        trainer.enter("exchange")
        with overflows_at(trainer.scale):
            for segment in model.store.segments:
                self.comm.sum_(segment.grad)
        weight = self._exchange(model, means, sum(sizes) / N, N, position.means)
        if not is_plain(trainer.loss.weight(x[:1, ...], t[:1, ...])):  # else the shares sum to 1
            if is_nothing(weight):
                trainer.loss.forward(model.predict(x), t)  # it says that there is nothing to learn from
            with overflows_at(trainer.scale):
                divide_gradients(model, weight / N)

    def _gradients(self, trainer: Trainer, x: Array, t: Array, sizes: list[int], N: int, means: Means) -> None:
        """Add up the gradients of this rank's pieces, each times its weight over N."""
        model, loss = trainer.model, trainer.loss
        normalising = [layer for _, layer in model.named_layers() if isinstance(layer, SyncBatchNorm)]
        model.zero_grad()
        start = 0
        for n in sizes:
            part = slice(start, start + (n or PADDING))
            start = part.stop
            if not n and not normalising:
                continue  # this rank has nothing to add, and nobody waits for it
            with _idle(model, normalising) if not n else contextlib.nullcontext():
                trainer.enter("forward")
                xs, ts = (x, t) if len(sizes) == 1 else (x[part, ...], t[part, ...])
                y = model.forward(xs, train=True)
                trainer.enter("loss")
                share = loss.weight(y, ts) / N if n else 0.0
                if n and not is_nothing(share):
                    means.add(loss.forward(y, ts), y, ts)
                    with overflows_at(trainer.scale):
                        dy = loss.backward(share * trainer.scale)
                elif normalising:  # the other ranks wait for this one in the backward of those layers
                    dy = backend.array_namespace(y).zeros_like(y)
                else:
                    model.drop_pending()
                    continue
                trainer.enter("backward")
                with overflows_at(trainer.scale):
                    model.backward(dy, need_dx=False)

    def _exchange(self, model: Layer, means: Means, part: float, N: int, into: Means) -> Array:
        """Sum what was counted over the ranks, and average the statistics of layers; return the sum of the weights."""
        like = model.store.segments[0].data
        xp, device = backend.array_namespace(like), backend.device_of(like)
        wide = backend.wide_dtype(xp, like.dtype)
        own = [(layer, name) for _, layer, name in model.named_buffers() if not isinstance(layer, SyncBatchNorm)]
        *numbers, _ = means.sums()
        # numbers of the host in one array of it, those of the device as they are: nothing waits for the device
        vector = xp.asarray([float(v) if type(v) in (int, float) else 0.0 for v in numbers], dtype=wide, device=device)
        parts = [vector]
        for i, value in enumerate(numbers):
            if type(value) not in (int, float):
                vector[i] = xp.astype(value, wide)
        parts += [xp.astype(xp.reshape(getattr(layer, name), (-1,)), wide) * part for layer, name in own]
        together = xp.concat(parts)
        self.comm.sum_(together)
        start = len(numbers)
        for layer, name in own:
            former = getattr(layer, name)
            stop = start + former.size
            setattr(layer, name, xp.astype(xp.reshape(together[start:stop], former.shape), former.dtype))
            start = stop
        total, weight = together[0], together[1]
        into.include(total, weight, xp.astype(together[2], xp.int64), xp.astype(together[3], xp.int64), N)
        return weight

    # --- measuring ---------------------------------------------------------------------------------

    def evaluate(self, trainer: Trainer, data: Any, *, metrics: Any, batch_size: int) -> Evaluation:
        """Measure the model, each rank on its share of the data; the results are those of all, on all ranks."""
        more = named_metrics(metrics, trainer.loss)
        given = self._part_of_loader(data) if isinstance(data, Loader) else self._part_of_arrays(data, batch_size)
        means = count(trainer.model, given, trainer.loss, more.values())
        sums = np.array([float(v) for v in means.sums()])
        self.comm.sum_(sums)
        total, weight, correct, counted, samples = sums.tolist()
        everyone = Means(trainer.loss)
        everyone.include(total, weight, int(correct), int(counted), int(samples))
        for metric in more.values():
            found = self.comm.gather_objects(metric.counts())
            metric.reset()
            for counts in found:
                metric.add_counts(counts)
        return read(everyone, more)

    def _part_of_arrays(self, data: tuple[Any, Any], batch_size: int) -> Iterator[tuple[Array, Array]]:
        x, t = data
        start, stop = bounds(x.shape[0], self.comm.rank, self.comm.size)
        return iter(()) if start == stop else batches(x[start:stop, ...], t[start:stop, ...], batch_size)

    def _part_of_loader(self, loader: Loader) -> Iterator[tuple[Array, Array]]:
        """Yield this rank's samples, in batches as large as those of one process."""
        part = copy.copy(loader)
        part.share = share = Share(self.comm.rank, self.comm.size)
        if not loader.drop_last:
            part.batch_size = loader.batch_size * self.comm.size
        for number, batch in enumerate(part):
            n = min(part.batch_size, part.samples - number * part.batch_size)
            if share.sizes(n)[0]:
                yield batch
        loader.epoch = part.epoch


@contextlib.contextmanager
def _idle(model: Layer, normalising: list[SyncBatchNorm]) -> Iterator[None]:
    """Let padding go through a model without leaving a trace in its statistics."""
    own = [(layer, name) for _, layer, name in model.named_buffers() if not isinstance(layer, SyncBatchNorm)]
    before = [getattr(layer, name) for layer, name in own]
    for norm in normalising:
        norm.idle = True
    try:
        yield
    finally:
        for norm in normalising:
            norm.idle = False
        for (layer, name), array in zip(own, before, strict=True):
            setattr(layer, name, array)


def _on_host(state: Any) -> Any:
    return state._replace(arrays={name: np.array(backend.to_numpy(a)) for name, a in state.arrays.items()})


def _draw_differently(model: Layer, rank: int) -> None:
    """Give the random masks of this rank seeds of their own, which follow from rank 0's."""
    numbers = model.random_state()
    odd = 0x9E3779B97F4A7C15  # any odd number: different ranks get different seeds
    for name, value in numbers.items():
        if name.rpartition(".")[2] == "seed":
            numbers[name] = (value + rank * odd) % 2**64
    model.load_random_state(numbers)
