"""Batches on their way from the host to the device, one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from xpnet.backend.namespaces import Array
from xpnet.backend.selection import Backend

__all__ = ["Copies", "copies_to"]

Staged = tuple[npt.NDArray[Any], Callable[[], Array]]


class Copies:
    """Plain copies, for any library: each batch in fresh memory.

    ::

        with copies.staging(shape, dtype) as (host, send):
            host[...] = ...
            x = function(send())

    What `send` returns may be used inside the block only, if `reuses` says so.
    """

    reuses = False

    def __init__(self, chosen: Backend) -> None:
        self._chosen = chosen

    @contextmanager
    def staging(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Staged]:
        """Give memory on the host to be filled, and a function that returns its contents on the device."""
        host = np.empty(shape, dtype)
        yield host, lambda: self._chosen.xp.asarray(host, device=self._chosen.device)

    def close(self) -> None:
        """Wait until the host's memory may be freed."""


class PinnedCopies(Copies):
    """Asynchronous copies for CuPy: page-locked memory, a stream of their own, and two slots in turn.

    The copy of a batch runs beside the step that learns from the one before it. Order is kept by events alone: a
    slot's host memory is filled again once its copy is done, its device memory is written again once the stream that
    computes has read it, and that stream reads once the copy is done.
    """

    reuses = True

    def __init__(self, chosen: Backend, slots: int = 2) -> None:
        import cupy

        super().__init__(chosen)
        with chosen.device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._slots: list[_Slot | None] = [None] * slots
        self._next = 0

    @contextmanager
    def staging(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Staged]:
        """Give page-locked memory to be filled, and a function that returns its contents on the device.

        The block must be left before the next is entered.
        """
        number = math.prod(shape) * np.dtype(dtype).itemsize
        slot = self._slot(number)
        slot.copied.synchronize()
        yield slot.host[:number].view(dtype).reshape(shape), lambda: self._send(slot, number).view(dtype).reshape(shape)
        slot.read.record(_computing())

    def _slot(self, number: int) -> _Slot:
        """Return the slot whose turn it is, with room for so many bytes."""
        index, self._next = self._next, (self._next + 1) % len(self._slots)
        slot = self._slots[index]
        if slot is None or slot.host.size < number:
            if slot is not None:
                slot.copied.synchronize()
            slot = self._slots[index] = _Slot(number)
        return slot

    def _send(self, slot: _Slot, number: int) -> Array:
        self._stream.wait_event(slot.read)
        slot.device[:number].set(slot.host[:number], stream=self._stream)
        slot.copied.record(self._stream)
        _computing().wait_event(slot.copied)
        return slot.device[:number]

    def close(self) -> None:
        """Wait for the copies under way, which read memory that is freed with this object."""
        for slot in self._slots:
            if slot is not None:
                slot.copied.synchronize()


class _Slot:
    """Memory for one batch on both sides, and the events that say when each may be written again."""

    def __init__(self, number: int) -> None:
        import cupy
        import cupyx

        self.host = cupyx.empty_pinned((number,), np.uint8)
        self.device = cupy.empty((number,), np.uint8)
        self.copied, self.read = cupy.cuda.Event(disable_timing=True), cupy.cuda.Event(disable_timing=True)
        self.read.record(_computing())  # the pool gives memory that kernels sent before may still be using


def _computing() -> Any:
    import cupy

    return cupy.cuda.get_current_stream()


def copies_to(chosen: Backend) -> Copies:
    """Return the way of copying that suits a backend; for one pass over the data."""
    return PinnedCopies(chosen) if array_api_compat.is_cupy_namespace(chosen.xp) else Copies(chosen)
