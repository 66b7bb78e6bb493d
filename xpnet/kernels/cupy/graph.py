"""CUDA graphs for CuPy: work that is recorded once and then launched as a whole.

A graph holds the launches with all their arguments: addresses and numbers are those of the recording. So the memory
that it works in must be nobody else's for as long as it lives, and numbers that change must lie in memory too.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from xpnet.backend import Array
from xpnet.kernels.cupy.launch import kernel

__all__ = ["Numbers", "Recording", "is_recording"]

WORDS = np.dtype([("of", np.uint64, 32)])  # struct Words of xpnet/kernels/cuda/graph.cu

_thread = threading.local()


def is_recording() -> bool:
    """Tell whether what this thread does is, or will be, recorded: cuBLAS cannot be."""
    return getattr(_thread, "recording", False)


class Recording:
    """Work without arguments on arrays of CuPy: done once by itself, recorded, and launched as often as wanted.

    What the work allocates comes from a pool of its own, and nothing else does. An array that is freed during the
    recording gives its place to later ones of the same recording alone, which run after it in every launch too, for
    all is recorded on one stream. The pool never gives memory back before the recording goes: under it lie blocks
    that are referred to here, whatever it believes to free. So between two launches nobody writes to an address in
    the graph, and what the work returns keeps its place. Arrays that were there before the recording are the caller's
    to keep.
    """

    def __init__(self) -> None:
        below = cupy.cuda.get_allocator()
        blocks: list[Any] = []

        def held(size: int) -> Any:
            blocks.append(below(size))
            return blocks[-1]

        self._pool = cupy.cuda.MemoryPool(held)
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._graph: Any = None
        weakref.finalize(self, _give_back, self._pool, blocks, cupy.cuda.Device()).atexit = False

    def rehearse(self, work: Callable[[], Any]) -> Any:
        """Do the work as it will be recorded, and return its result.

        Kernels are compiled by it and memory is got, both of which a recording should not do.
        """
        computing = cupy.cuda.get_current_stream()
        self._stream.wait_event(computing.record())
        try:
            with self._beside():
                return work()
        finally:
            computing.wait_event(self._stream.record())

    def record(self, work: Callable[[], Any]) -> Any:
        """Record the work and return its result: arrays that hold nothing before a launch. Nothing is computed."""
        with self._beside(), _nothing_of_the_host():
            self._stream.begin_capture()
            try:
                result = work()
            except BaseException:
                with contextlib.suppress(Exception):  # what broke it off has ended the capture too
                    self._stream.end_capture()
                raise
            self._graph = self._stream.end_capture()
        return result

    def launch(self) -> None:
        """Do the recorded work, on the current stream; this does not wait for it."""
        self._graph.launch()

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Send what is done in a block, by this thread, to the stream and the memory of the recording."""
        _thread.recording = True
        try:
            with cupy.cuda.using_allocator(self._pool.malloc), self._stream:
                yield
        finally:
            _thread.recording = False


_leaving: list[tuple[Any, Any]] = []  # pools, and their GPUs, of recordings that are gone, with arrays still in use


def _give_back(pool: Any, blocks: list[Any], device: Any) -> None:
    """Return the memory of a recording; that of arrays which somebody still has, once the next recording goes.

    CuPy's pools do not end by themselves: what is free in them refers to them, and they to it.
    """
    blocks.clear()
    _leaving.append((pool, device))
    for entry in _leaving[:]:
        with entry[1]:
            entry[0].free_all_blocks()
            if not entry[0].total_bytes():
                _leaving.remove(entry)


@contextlib.contextmanager
def _nothing_of_the_host() -> Iterator[None]:
    """Refuse to copy arrays of the host in a block: a graph would copy what lies at their address at each launch.

    CuPy puts them into page-locked memory first and says nothing. Who allocates it now it does not tell, so its own
    pool does so afterwards.
    """
    me, usual = threading.get_ident(), cupy.get_default_pinned_memory_pool().malloc

    def refuse(size: int) -> Any:
        if threading.get_ident() == me:
            raise RuntimeError("a step copies an array of the host to the device")
        return usual(size)

    cupy.cuda.set_pinned_memory_allocator(refuse)
    try:
        yield
    finally:
        cupy.cuda.set_pinned_memory_allocator(usual)


class Numbers:
    """Numbers in device memory, 64 bits each, that the host gives before a launch.

    They are the arguments of a kernel, which travel with its launch: nothing of the host has to stay as it is until
    the device has read it.
    """

    def __init__(self, count: int) -> None:
        self.words = cupy.zeros((count,), np.uint64)

    def whole(self, i: int) -> Array:
        """Return number i as an array, 0-d of uint64."""
        return self.words[i : i + 1].reshape(())

    def real(self, i: int) -> Array:
        """Return number i as an array, 0-d of float64."""
        return self.words[i : i + 1].view(np.float64).reshape(())

    def set(self, values: Sequence[int | float]) -> None:
        """Give all numbers, in the order of the stream: whole ones from 0 to 2**64 - 1, or floats."""
        run = kernel("graph", "set_words", np.dtype(np.float32), False)
        size = WORDS["of"].shape[0]
        for start in range(0, len(values), size):
            part = values[start : start + size]
            given = np.zeros((), WORDS)
            for i, value in enumerate(part):
                given["of"][i] = np.float64(value).view(np.uint64) if isinstance(value, float) else value
            run((1,), (size,), (self.words[start : start + size], given, len(part)))
