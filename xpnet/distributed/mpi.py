"""Ranks that talk through MPI: arrays on the host in place, arrays on a GPU by way of the host."""

from __future__ import annotations

import os
import sys
from typing import Any, TypeVar

import array_api_compat
import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.backend.pinned import PinnedStage
from xpnet.distributed._library import load_mpi
from xpnet.distributed.communicator import Communicator

__all__ = ["BUCKET_BYTES", "MpiCommunicator"]

T = TypeVar("T")

BUCKET_BYTES = 4 << 20  # sent at a time: the one on its way to or from a GPU passes the one in the network


class MpiCommunicator(Communicator):
    """All processes that one ``mpiexec`` (or ``srun``) has started.

    NumPy arrays are reduced where they lie. CuPy arrays go through pinned memory of the host, bucket by bucket, unless
    the MPI library is CUDA-aware and one says so: given a pointer of a GPU, one that is not would crash, and the
    wheels are not. Arrays of other libraries are copied to the host and back.

    Parameters
    ----------
    cuda_aware : bool, optional
        Hand CuPy arrays to MPI as they are; by default what ``XPNET_MPI_CUDA_AWARE=1`` says.
    bucket_bytes : int, default 4 MiB
        Sent at a time.

    Raises
    ------
    MissingDependencyError
        If mpi4py or an MPI library is not installed.
    """

    name = "mpi"

    def __init__(self, *, cuda_aware: bool | None = None, bucket_bytes: int = BUCKET_BYTES) -> None:
        self._mpi = load_mpi()
        world = self._mpi.COMM_WORLD
        self._comm = world.Dup()  # messages of the program itself cannot be taken for ours
        self.rank, self.size = world.Get_rank(), world.Get_size()
        local = world.Split_type(self._mpi.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = local.Get_rank(), local.Get_size()
        local.Free()
        self.cuda_aware = os.environ.get("XPNET_MPI_CUDA_AWARE") == "1" if cuda_aware is None else cuda_aware
        self.bucket_bytes = bucket_bytes
        self._stage: PinnedStage | None = None
        self._flag = np.zeros(1, np.int8)

    def sum_(self, a: Array) -> None:
        """Replace an array, on every rank, by the sum of those of all ranks."""
        if self.size == 1:
            return
        if isinstance(a, np.ndarray) and a.flags.c_contiguous and a.dtype.itemsize >= 4:
            self._sum_host(a)
        elif array_api_compat.is_cupy_array(a) and a.flags.c_contiguous and a.dtype.itemsize >= 4:
            self._sum_cupy(a)
        else:
            host = np.array(backend.to_numpy(a), order="C")
            wide = host.astype(np.float32) if host.dtype.kind == "f" and host.dtype.itemsize < 4 else host
            self._sum_host(wide)
            a[...] = backend.asarray_like(wide, a)

    def _sum_host(self, a: np.ndarray) -> None:
        flat = a.reshape(-1)
        step = max(1, self.bucket_bytes // a.itemsize)
        for start in range(0, flat.size, step):
            self._comm.Allreduce(self._mpi.IN_PLACE, flat[start : start + step], op=self._mpi.SUM)

    def _sum_cupy(self, a: Array) -> None:
        if self.cuda_aware:
            backend.synchronize_array(a)  # MPI knows nothing of streams
            self._comm.Allreduce(self._mpi.IN_PLACE, a, op=self._mpi.SUM)
            return
        if self._stage is None:
            self._stage = PinnedStage()
        self._stage.through(a, self._sum_host, bucket_bytes=self.bucket_bytes)

    def stack(self, a: Array) -> Array:
        """Return an array (size, ...) of those of all ranks, in the order of the ranks."""
        host = np.ascontiguousarray(backend.to_numpy(a))
        out = np.empty((self.size, *host.shape), host.dtype)
        self._comm.Allgather(host, out)
        return out if isinstance(a, np.ndarray) else backend.asarray_like(out, a)

    def gather_objects(self, value: T) -> list[T]:
        """Return the picklable objects of all ranks, in the order of the ranks."""
        return self._comm.allgather(value)

    def broadcast_object(self, value: T) -> T:
        """Return rank 0's picklable object."""
        return self._comm.bcast(value)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true on any rank."""
        self._flag[0] = flag
        self._comm.Allreduce(self._mpi.IN_PLACE, self._flag, op=self._mpi.MAX)
        return bool(self._flag[0])

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._comm.Barrier()

    def abort(self, code: int) -> None:
        """End all ranks at once, with an exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)
        os._exit(code)  # MPICH's call may return before its launcher has ended this process

    @property
    def version(self) -> str:
        """The MPI library and its version, on one line."""
        said: Any = self._mpi.Get_library_version()
        return " ".join(said.split()[:3])
