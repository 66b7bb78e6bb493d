"""Making another thread work where this one does: on the same device and the same stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import array_api_compat

from xpnet.backend.selection import Backend, in_force

__all__ = ["carry"]


def carry(chosen: Backend) -> Callable[[], AbstractContextManager[object]]:
    """Return a block that selects, in any thread, the device of `chosen` and the stream this thread uses there.

    CuPy and torch keep both per thread, and a thread begins on device 0 and the default stream.
    What is queued on this thread's stream is in order with all that this thread queues later, so
    nothing needs to wait.

    Parameters
    ----------
    chosen : Backend

    Returns
    -------
    callable
        Without arguments; each call gives a fresh context manager. It does nothing on the CPU.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy") as chosen:
    ...     there = backend.carry(chosen)
    >>> with there():        # in another thread
    ...     pass
    """
    if array_api_compat.is_cupy_namespace(chosen.xp):
        import cupy

        with chosen.device:
            stream = cupy.cuda.get_current_stream()

        @contextlib.contextmanager
        def on_device() -> Iterator[None]:
            with in_force(chosen), stream:  # `get` there would turn to the GPU of the process-wide selection
                yield

        return on_device
    if array_api_compat.is_torch_namespace(chosen.xp) and chosen.device.type == "cuda":
        import torch

        stream = torch.cuda.current_stream(chosen.device)
        return lambda: torch.cuda.stream(stream)
    return contextlib.nullcontext
