"""Batches: from NumPy arrays on the host to arrays of the selected backend, in a repeatable order."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.data._batches import FromHost, Rows
from xpnet.data._loader_checks import (
    checked_augmented,
    checked_int,
    checked_place,
    checked_scale,
    checked_size,
    checked_targets,
    dtype_name,
)
from xpnet.data._prefetch import ahead
from xpnet.data._resident import FromDevice, Resident
from xpnet.data.augment.base import Augmentation
from xpnet.data.share import Share
from xpnet.random import generator

__all__ = ["Augment", "Loader"]

#: ``x, t = augment(x, t, rng)``
Augment = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


class Loader:
    """Gives out the samples in batches, in a new order every epoch.

    One pass is one epoch: ``for x, t in loader``. The order of an epoch depends on `seed` and on the
    number of the epoch alone, so every backend sees the same batches, and setting `epoch` replays
    one.

    Parameters
    ----------
    x : array, shape (N, ...)
        Samples, of any library; one that is not NumPy is copied to the host here, once. A NumPy
        array is used as it is, not copied.
    t : array of int, shape (N,), or of float, shape (N, K)
        Class numbers, or targets (one-hot, probabilities, values to regress).
    batch_size : int, default 64
    shuffle : bool, default True
        False keeps the order of `x`.
    seed : int, default 0
        From 0 to 2**64 - 1.
    drop_last : bool, default False
        Leave out the last batch of an epoch if it is shorter than the others.
    scale : (float, float), optional
        ``(a, b)`` makes a batch ``x * a + b``, computed in float32. Without it, uint8 is divided by
        255 and floats are left as they are. Images that do not reach 255 (`digits` ends at 16) need
        ``scale=dataset.scale``.
    dtype : str or dtype, optional
        Float type of the batches, such as ``"float32"``; by default that of the selected backend.
    augment : callable, optional
        ``x, t = augment(x, t, rng)`` is given each batch on the device, scaled and in its float type,
        and returns what takes its place, with as many samples; `x` and `t` are its own to change.
        `rng` is a `numpy.random.Generator` that depends on `seed`, the epoch and the number of the
        batch alone.
    prefetch : int, optional
        Batches that a thread prepares ahead; 0 prepares each in the calling thread when it is asked
        for. By default 2 on a device other than the CPU, else 0: with NumPy the two threads were
        measured to be in each other's way. The batches are the same.
    on_device : bool or "auto", default "auto"
        Keep the whole data set on the device, uint8 as bytes, and gather the batches there: the first pass sends it
        once, later ones send an order of rows. ``"auto"`` does so on a GPU if it takes at most a quarter of the
        memory that is free there. The batches are the same, bit for bit, but a change of `x` after the first pass may
        not be seen.

    Attributes
    ----------
    share : Share or None
        Of a run on several processes: give this rank's part of every batch only. `Trainer` sets it.
    epoch : int
        Number of the epoch that the next pass gives (or the pass under way is giving), from 0 on.
        It goes up when a pass ends or is abandoned, and may be set to any other number.
    samples : int
        Samples that one epoch gives: N, less what `drop_last` leaves out.

    Yields
    ------
    x : array, shape (n, ...)
        Of the selected backend and its float type, whatever the backend is when the pass begins.
        With two axes or more behind N the batch is the innermost axis *in memory*, as the kernels
        for images like it; the index order is the usual one. Never an alias of the stored data.
    t : array, shape (n,) of int64 or (n, K) of the same float type

    Raises
    ------
    ValueError
        If `x` and `t` differ in length or are empty, if a setting is out of range, if a type is not one of the
        above, or if an `Augmentation` does not go with images of this size.

    Notes
    -----
    Integers stay integers until they are on the backend's device: that is a quarter of the bytes to
    transpose and to send. CuPy gets them through page-locked memory and a stream of its own, so that the copy
    of a batch runs beside the step before it.

    The order of epoch e is ``generator(seed, e).permutation(N)``, and `augment` is given
    ``generator(seed, e, number)``, both of `xpnet.random`: any batch can be made again. With a `share` it is
    ``generator(seed, e, number, rank)``: ranks draw different numbers.

    The thread that prepares batches works with the selection of backend, the device and the stream of
    the thread that began the pass. It ends with the pass, however that ends; an exception in it
    (of `augment`, say) is raised where the batch is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import backend
    >>> from xpnet.data import Loader
    >>> x = np.arange(10 * 4, dtype=np.uint8).reshape(10, 1, 2, 2)
    >>> loader = Loader(x, np.arange(10), batch_size=4)
    >>> with backend.using("numpy"):
    ...     [(x.shape, t.shape) for x, t in loader]
    [((4, 1, 2, 2), (4,)), ((4, 1, 2, 2), (4,)), ((2, 1, 2, 2), (2,))]
    >>> len(loader), loader.samples, loader.epoch
    (3, 10, 1)
    """

    def __init__(
        self,
        x: Array,
        t: Array,
        *,
        batch_size: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        scale: tuple[float, float] | None = None,
        dtype: Any = None,
        augment: Augment | None = None,
        prefetch: int | None = None,
        on_device: bool | str = "auto",
    ) -> None:
        # Contiguous, since gathering rows out of any other array would copy all of it every time.
        self._x = np.ascontiguousarray(backend.to_numpy(x))
        self._t = checked_targets(backend.to_numpy(t))
        self._size = checked_size(self._x, self._t)
        self._scale = checked_scale(scale, self._x.dtype)
        self._dtype = None if dtype is None else dtype_name(dtype)
        self.batch_size = checked_int("batch_size", batch_size, 1, "1 or more")
        self.shuffle = bool(shuffle)
        self.seed = checked_int("seed", seed, 0, "0 to 2**64 - 1")
        self.drop_last = bool(drop_last)
        self.augment = augment
        self.prefetch = None if prefetch is None else checked_int("prefetch", prefetch, 0, "0 or more")
        self.on_device = checked_place(on_device)
        self._resident: tuple[Any, Resident | None] | None = None  # where, and what is there
        self.share: Share | None = None
        self.epoch = 0
        if augment is not None and not callable(augment):
            raise ValueError(f"Loader: augment is {augment!r}; give a callable, x, t = augment(x, t, rng)")
        if isinstance(augment, Augmentation) and self._x.ndim == 4:
            augment.output_shape(self._x.shape[1:])  # now, and not after what else a run begins with
        if self.drop_last and self.batch_size > self._size:
            raise ValueError(
                f"Loader: batch_size={self.batch_size} and drop_last=True leave nothing of {self._size} "
                "samples; take a smaller batch or drop_last=False"
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        whole, rest = divmod(self._size, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    @property
    def samples(self) -> int:
        """Samples that one epoch gives."""
        return min(self._size, len(self) * self.batch_size)

    @property
    def stored(self) -> tuple[np.ndarray, np.ndarray]:
        """All samples and labels as they were given, on the host; not to be changed."""
        return self._x, self._t

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, as ``model.build`` wants it."""
        return self._x.shape[1:]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Give the batches of epoch `epoch`, all of them."""
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[tuple[Array, Array]]:
        """Give the batches of epoch `epoch` from batch number `start` on, as a whole pass would.

        Parameters
        ----------
        start : int, default 0
            How many batches to leave out, less than ``len(loader)``: to resume in mid-epoch, as many
            as were seen.

        Returns
        -------
        iterator of (x, t)

        Raises
        ------
        ValueError
            If `start` is negative or there is no such batch.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnet.data import Loader
        >>> loader = Loader(np.zeros((10, 2), dtype=np.uint8), np.arange(10), batch_size=4, shuffle=False)
        >>> [t.tolist() for x, t in loader.iterate(start=1)]
        [[4, 5, 6, 7], [8, 9]]
        """
        start = checked_int("start", start, 0, f"the number of a batch, 0 to {len(self) - 1}")
        if start >= len(self):
            raise ValueError(
                f"Loader: start is {start}, but an epoch has {len(self)} batches, 0 to {len(self) - 1}; "
                "set epoch to begin another"
            )
        return self._pass(start)

    def _pass(self, start: int) -> Iterator[tuple[Array, Array]]:
        epoch = checked_int("epoch", self.epoch, 0, "0 to 2**64 - 1")
        # All that a batch depends on is settled here, so that a thread makes the same ones
        context = contextvars.copy_context()
        order, begins = self._order(epoch)
        source = self._source(order)
        maker = self._maker(epoch, source, begins)
        numbers = range(start, len(self))
        depth = self._depth(source)
        try:
            if depth == 0 or len(numbers) == 1:
                for number in numbers:
                    yield context.run(maker, number)
            else:
                yield from ahead(lambda number: context.run(maker, number), numbers, depth)
        finally:
            source.close()
            if self.epoch == epoch:  # else it was set during the pass, and that stands
                self.epoch = epoch + 1

    def _depth(self, source: FromHost | FromDevice) -> int:
        if self.prefetch is not None:
            return self.prefetch
        chosen = backend.get()
        at_hand = isinstance(source, FromDevice) or backend.is_on_host(chosen.xp.empty(0, device=chosen.device))
        return 0 if at_hand else 2

    def _order(self, epoch: int) -> tuple[Rows, list[int]]:
        """Return the rows of an epoch in their order, and where in it each batch begins; with a share, this rank's."""
        order: Rows = generator(self.seed, epoch).permutation(self._size) if self.shuffle else np.arange(self._size)
        starts = range(0, self.samples, self.batch_size)
        parts = [order[start : min(start + self.batch_size, self.samples)] for start in starts]
        if self.share is not None:
            parts = [self.share.rows(part) for part in parts]
            order = np.concatenate(parts)
        return order, [0, *itertools.accumulate(len(part) for part in parts)]

    def _source(self, order: Rows) -> FromHost | FromDevice:
        """Return where the batches of an epoch come from, in the backend selected now."""
        chosen = backend.get()  # for the whole pass
        dtype = chosen.dtype if self._dtype is None else backend.dtype_by_name(chosen.xp, self._dtype)
        resident = self._on_device(chosen, dtype)
        if resident is not None:
            return FromDevice(resident, order, self._scale, chosen, dtype)
        return FromHost(self._x, self._t, order, self._scale, chosen, dtype)

    def _on_device(self, chosen: backend.Backend, dtype: Any) -> Resident | None:
        """Return the data on the device, sent there at the first pass; None where they are to stay on the host."""
        place = chosen.xp, chosen.device, dtype, self.on_device
        if self._resident is None or self._resident[0] != place:
            self._resident = None  # what was elsewhere goes first
            wanted = self.on_device is True or (
                self.on_device == "auto" and Resident.fits(self._x, self._t, chosen, dtype)
            )
            self._resident = place, Resident(self._x, self._t, chosen, dtype) if wanted else None
        return self._resident[1]

    def _maker(
        self, epoch: int, source: FromHost | FromDevice, begins: list[int]
    ) -> Callable[[int], tuple[Array, Array]]:
        """Return the function that makes the batches of an epoch by their numbers."""
        seed, augment, share = self.seed, self.augment, self.share
        on_device = backend.carry(backend.get())

        def make(number: int) -> tuple[Array, Array]:
            start, stop = begins[number : number + 2]
            with on_device():
                x, t = source.batch(start, stop)
                if augment is None:
                    return x, t
                rng = generator(seed, epoch, number, 0 if share is None else share.rank)
                return checked_augmented(augment(x, t, rng), stop - start, augment)

        return make

    def __repr__(self) -> str:
        return (
            f"<Loader: {self._size} samples of {self._x.shape[1:]} {self._x.dtype}, "
            f"batch_size={self.batch_size}, {len(self)} batches, shuffle={self.shuffle}, "
            f"seed={self.seed}, epoch={self.epoch}>"
        )
