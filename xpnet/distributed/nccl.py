"""Ranks that talk through NCCL, from GPU to GPU; MPI carries the little that is on the host."""

from __future__ import annotations

from typing import TypeVar

import array_api_compat

from xpnet.backend import Array
from xpnet.backend.nccl import NcclGroup, nccl_id
from xpnet.distributed.communicator import Communicator

__all__ = ["NcclCommunicator"]

T = TypeVar("T")


class NcclCommunicator(Communicator):
    """CuPy arrays through NCCL, on the current stream and without waiting; all else through another communicator.

    Parameters
    ----------
    host : Communicator
        For objects, flags and arrays on the host, and for NCCL's identifier at the start; `MpiCommunicator`, or
        `SingleCommunicator` for one process.

    Raises
    ------
    BackendUnavailableError
        If CuPy has no NCCL, or two ranks would share a GPU, which NCCL refuses.

    Notes
    -----
    The GPU is CuPy's current device. Not yet run on a GPU.
    """

    name = "nccl"

    def __init__(self, host: Communicator) -> None:
        self.host = host
        self.rank, self.size = host.rank, host.size
        self.local_rank, self.local_size = host.local_rank, host.local_size
        self._group = NcclGroup(host.size, host.from_root(nccl_id), host.rank)

    def sum_(self, a: Array) -> None:
        """Replace an array, on every rank, by the sum of those of all ranks; on a GPU nothing waits for it."""
        if array_api_compat.is_cupy_array(a):
            self._group.sum_(a)
        else:
            self.host.sum_(a)

    def stack(self, a: Array) -> Array:
        """Return an array (size, ...) of those of all ranks, in the order of the ranks."""
        return self._group.stack(a) if array_api_compat.is_cupy_array(a) else self.host.stack(a)

    def gather_objects(self, value: T) -> list[T]:
        """Return the picklable objects of all ranks, in the order of the ranks."""
        return self.host.gather_objects(value)

    def broadcast_object(self, value: T) -> T:
        """Return rank 0's picklable object."""
        return self.host.broadcast_object(value)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true on any rank."""
        return self.host.any(flag)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.host.barrier()

    def abort(self, code: int) -> None:
        """End all ranks at once, with an exit code."""
        self.host.abort(code)
