"""Batches: from NumPy arrays on the host to arrays of the selected backend, in a repeatable order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend
from xpnet.backend import Array, Backend
from xpnet.data._loader_checks import (
    checked_int,
    checked_scale,
    checked_size,
    checked_targets,
    dtype_name,
    host_dtype,
)

__all__ = ["Loader"]

_BLOCK = 32  # rows gathered at a time, so that they stay in the first-level cache while transposed


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

    Attributes
    ----------
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
        If `x` and `t` differ in length or are empty, if a setting is out of range, or if a type
        is not one of the above.

    Notes
    -----
    Integers stay integers until they are on the backend's device: that is a quarter of the bytes to
    transpose and to send. Epoch e of a loader is
    ``np.random.Generator(np.random.Philox(key=[seed, e])).permutation(N)``.

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
        self.epoch = 0
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
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, as ``model.build`` wants it."""
        return self._x.shape[1:]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Give the batches of epoch `epoch`, and count it when the pass ends or is abandoned."""
        epoch = checked_int("epoch", self.epoch, 0, "0 to 2**64 - 1")
        order = self._order(epoch)
        chosen = backend.get()  # for the whole pass: backend.asarray would ask again for every batch
        dtype = chosen.dtype if self._dtype is None else backend.dtype_by_name(chosen.xp, self._dtype)
        try:
            for start in range(0, self.samples, self.batch_size):
                rows = order[start : start + self.batch_size]
                yield self._batch(rows, chosen, dtype), self._targets(rows, chosen, dtype)
        finally:
            if self.epoch == epoch:  # else it was set during the pass, and that stands
                self.epoch = epoch + 1

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self._size)
        key = np.array([self.seed, epoch], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).permutation(self._size)

    def _batch(self, rows: npt.NDArray[np.int64], chosen: Backend, dtype: Any) -> Array:
        xp = chosen.xp
        on_host = self._gather(rows, host_dtype(self._x.dtype, xp, dtype))
        x = self._to_float(xp.asarray(on_host, device=chosen.device), xp, dtype)
        if self._x.ndim < 3:
            return x
        shape = self._x.shape[1:]
        return xp.permute_dims(xp.reshape(x, (*shape, rows.size)), (len(shape), *range(len(shape))))

    def _gather(self, rows: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Copy rows to (n, ...), or to (elements of a sample, n) where there are two axes or more."""
        if self._x.ndim < 3:
            return np.take(self._x, rows, axis=0).astype(dtype, copy=False)
        out = np.empty((self._x[0].size, rows.size), dtype=dtype)
        for start in range(0, rows.size, _BLOCK):
            block = np.take(self._x, rows[start : start + _BLOCK], axis=0)
            out[:, start : start + _BLOCK] = block.reshape(len(block), -1).T
        return out

    def _to_float(self, x: Array, xp: Any, dtype: Any) -> Array:
        if self._scale is None and self._x.dtype.kind == "f":
            return xp.astype(x, dtype, copy=False)
        y = xp.astype(x, xp.float32)  # a copy: in place is allowed
        if self._scale is None:
            # An array as divisor: by a number, torch multiplies with the reciprocal on a GPU, which
            # differs in the last bit from what the other backends give.
            y /= xp.full((1,), 255.0, dtype=xp.float32, device=backend.device_of(y))
        else:
            y *= self._scale[0]
            y += self._scale[1]
        return xp.astype(y, dtype, copy=False)

    def _targets(self, rows: npt.NDArray[np.int64], chosen: Backend, dtype: Any) -> Array:
        xp = chosen.xp
        t = np.take(self._t, rows, axis=0)
        if t.ndim == 1:
            return xp.asarray(t, device=chosen.device)
        on_host = t.astype(host_dtype(t.dtype, xp, dtype), copy=False)
        return xp.astype(xp.asarray(on_host, device=chosen.device), dtype, copy=False)

    def __repr__(self) -> str:
        return (
            f"<Loader: {self._size} samples of {self._x.shape[1:]} {self._x.dtype}, "
            f"batch_size={self.batch_size}, {len(self)} batches, shuffle={self.shuffle}, "
            f"seed={self.seed}, epoch={self.epoch}>"
        )
