"""One batch: rows gathered on the host, sent to the device, and only there made floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, Backend
from xpnet.backend.copies import copies_to
from xpnet.kernels import find
from xpnet.kernels.layout import inverse

__all__ = ["FromHost", "axes_order", "host_dtype"]

Rows = npt.NDArray[np.int64]
Scale = tuple[float, float] | None

_BLOCK = 32  # rows gathered at a time, so that they stay in the first-level cache while transposed


class FromHost:
    """The batches of one pass, from arrays on the host, in an order of their rows."""

    def __init__(
        self, x: npt.NDArray[Any], t: npt.NDArray[Any], order: Rows, scale: Scale, chosen: Backend, dtype: Any
    ) -> None:
        self._x, self._t, self._order, self._scale, self._chosen, self._dtype = x, t, order, scale, chosen, dtype
        self._copies = copies_to(chosen)

    def batch(self, start: int, stop: int) -> tuple[Array, Array]:
        """Return the samples and targets of some places in the order, on the device."""
        rows = self._order[start:stop]
        return self._samples(rows), self._targets(rows)

    def _samples(self, rows: Rows) -> Array:
        """Return the rows as floats on the device; images lie in memory as its kernels like them."""
        stored, xp = self._x, self._chosen.xp
        order = axes_order(xp, stored.ndim)
        shape = (rows.size, *stored.shape[1:])
        with self._copies.staging(tuple(shape[axis] for axis in order), host_dtype(stored.dtype, xp, self._dtype)) as (
            on_host,
            send,
        ):
            _gather(stored, rows, on_host, order)
            to_float = find("to_float", xp)
            x = to_float(send(), stored.dtype.kind, self._scale, self._dtype, copy=self._copies.reuses)
        return xp.permute_dims(x, inverse(order))

    def _targets(self, rows: Rows) -> Array:
        """Return the labels of the rows on the device; float targets in the float type."""
        xp = self._chosen.xp
        t = np.take(self._t, rows, axis=0)
        if t.ndim == 1:
            return xp.asarray(t, device=self._chosen.device)
        on_host = t.astype(host_dtype(t.dtype, xp, self._dtype), copy=False)
        return xp.astype(xp.asarray(on_host, device=self._chosen.device), self._dtype, copy=False)

    def close(self) -> None:
        """End the pass."""
        self._copies.close()


def axes_order(xp: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes of a batch in the order in which they are to lie in memory."""
    if ndim < 3:
        return tuple(range(ndim))
    return find("image_order", xp)() if ndim == 4 else (*range(1, ndim), 0)


def host_dtype(stored: np.dtype[Any], xp: Any, dtype: Any) -> np.dtype[Any]:
    """Type in which samples leave the host to become `dtype`: no wider than need be, known to `xp`."""
    if stored.name in ("float16", "float64") and getattr(xp, stored.name, None) == dtype:
        return stored.newbyteorder("=")
    return np.dtype(np.uint8 if stored == np.uint8 else np.float32)


def _gather(stored: npt.NDArray[Any], rows: Rows, out: npt.NDArray[Any], order: tuple[int, ...]) -> None:
    """Copy rows to `out` (n, ...), or where they have two axes or more, with its axes in an order."""
    if stored.ndim < 3:
        out[...] = np.take(stored, rows, axis=0)
        return
    by_row = out.transpose(inverse(order))
    for start in range(0, rows.size, _BLOCK):
        block, target = np.take(stored, rows[start : start + _BLOCK], axis=0), by_row[start : start + _BLOCK]
        if order[-1] != 1:
            target[...] = block
            continue
        for channel in range(stored.shape[1]):  # else NumPy's inner loop would be as short as the channels are few
            target[:, channel] = block[:, channel]
