"""Arrays of a GPU, by way of pinned memory of the host, bucket by bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend.namespaces import Array

__all__ = ["PinnedStage"]


class PinnedStage:
    """Lets a function work on the values of a CuPy array on the host, while the next bucket is on its way.

    Pinned memory is what a GPU copies to and from by itself. It is kept from one call to the next.
    """

    def __init__(self) -> None:
        self._memory: np.ndarray | None = None
        self._done: Any = None

    def through(self, a: Array, change: Callable[[np.ndarray], object], *, bucket_bytes: int) -> None:
        """Replace the values of an array by what a function makes of them on the host, in place.

        Parameters
        ----------
        a : cupy array, contiguous
        change : callable
            Is given one bucket after another, as NumPy arrays, to be changed in place.
        bucket_bytes : int
        """
        import cupy

        with cupy.cuda.Device(a.device.id):
            stream = cupy.cuda.get_current_stream()
            host = self._room(a)
            flat = a.reshape(-1)
            step = max(1, bucket_bytes // a.itemsize)
            parts = [slice(start, min(start + step, flat.size)) for start in range(0, flat.size, step)]
            arrived = []
            for part in parts:  # all are sent at once, and each is waited for when its turn comes
                flat[part].get(stream=stream, out=host[part], blocking=False)
                arrived.append(stream.record())
            for part, event in zip(parts, arrived, strict=True):
                event.synchronize()
                change(host[part])
                flat[part].set(host[part], stream=stream)
            self._done = stream.record()

    def _room(self, a: Array) -> np.ndarray:
        """Return pinned memory in the shape of the flattened array; its former contents have been sent."""
        import cupyx

        if self._done is not None:
            self._done.synchronize()
        if self._memory is None or self._memory.nbytes < a.nbytes:
            self._memory = cupyx.empty_pinned((a.nbytes,), dtype=np.uint8)
        return self._memory[: a.nbytes].view(a.dtype)
