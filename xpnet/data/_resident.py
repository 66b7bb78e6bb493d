"""A whole data set on the device, as the bytes that it is stored in: batches are gathered there."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend
from xpnet.backend import Array, Backend
from xpnet.backend.memory import device_memory
from xpnet.data._batches import Rows, Scale, axes_order, host_dtype
from xpnet.kernels import find

__all__ = ["FromDevice", "Resident"]

SHARE = 0.25  # of the free memory is what "auto" takes for a data set; the rest is for the training


class Resident:
    """Samples and targets on a device.

    Parameters
    ----------
    x, t : numpy.ndarray
    chosen : Backend
        Selected when this is made.
    dtype : dtype
        Float type of the batches: samples that are no uint8 are held as floats.
    """

    def __init__(self, x: npt.NDArray[Any], t: npt.NDArray[Any], chosen: Backend, dtype: Any) -> None:
        xp = chosen.xp
        self.kind = x.dtype.kind
        self.x = backend.asarray(x.astype(host_dtype(x.dtype, xp, dtype), copy=False))
        self.t = backend.asarray(t if t.ndim == 1 else t.astype(host_dtype(t.dtype, xp, dtype), copy=False))

    @staticmethod
    def fits(x: npt.NDArray[Any], t: npt.NDArray[Any], chosen: Backend, dtype: Any) -> bool:
        """Tell whether the data set takes little enough of the memory that is free on a GPU; False on no GPU."""
        memory = device_memory(chosen.xp, chosen.device)
        if memory is None:
            return False
        number = x.size * np.dtype(host_dtype(x.dtype, chosen.xp, dtype)).itemsize + t.nbytes
        if number <= SHARE * memory.free:
            return True
        logging.getLogger("xpnet").info(
            "Loader: %.0f MB of data stay on the host: %.0f MB are free on the device",
            number / 2**20,
            memory.free / 2**20,
        )
        return False


class FromDevice:
    """The batches of one pass, from a data set on the device; the same as `FromHost` gives, bit for bit."""

    def __init__(self, data: Resident, order: Rows, scale: Scale, chosen: Backend, dtype: Any) -> None:
        self._data, self._scale, self._xp, self._dtype = data, scale, chosen.xp, dtype
        self._order = chosen.xp.asarray(order, device=chosen.device)  # once for the pass: a batch sends nothing

    def batch(self, start: int, stop: int) -> tuple[Array, Array]:
        """Return the samples and targets of some places in the order."""
        rows = self._order[start:stop]
        return self._samples(rows), self._targets(rows)

    def _samples(self, rows: Array) -> Array:
        stored = self._data.x
        order = axes_order(self._xp, len(stored.shape))
        gather = find("gather_batch", self._xp)
        return gather(stored, rows, order, self._data.kind, self._scale, self._dtype)

    def _targets(self, rows: Array) -> Array:
        t = self._xp.take(self._data.t, rows, axis=0)
        return t if len(t.shape) == 1 else self._xp.astype(t, self._dtype, copy=False)

    def close(self) -> None:
        """End the pass."""
