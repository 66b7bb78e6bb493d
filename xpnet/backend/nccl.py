"""NVIDIA's library for sums over GPUs, as CuPy gives it."""

from __future__ import annotations

from typing import Any

from xpnet.backend.namespaces import Array
from xpnet.errors import BackendUnavailableError

__all__ = ["NcclGroup", "nccl_id", "why_no_nccl"]

INSTALL = "pip install 'xpnet[nccl13]' (or 'xpnet[nccl12]' for CUDA 12)"


def why_no_nccl() -> str | None:
    """Return why NCCL cannot be used here, with the remedy; None if it can be."""
    try:
        import cupy

        if not cupy.is_available():
            return "CuPy finds no GPU"
        from cupy.cuda import nccl
    except ImportError as error:
        return f"{error}; {INSTALL}"
    return None if nccl.available else f"CuPy finds no NCCL library; {INSTALL}"


def nccl_id() -> bytes:
    """Return a new identifier, by which the ranks of a group find each other.

    Raises
    ------
    BackendUnavailableError
        If NCCL cannot be used here.
    """
    why = why_no_nccl()
    if why is not None:
        raise BackendUnavailableError(f"NCCL cannot be used: {why}")
    from cupy.cuda import nccl

    return nccl.get_unique_id()


class NcclGroup:
    """The current GPUs of all ranks.

    Parameters
    ----------
    size : int
    identifier : bytes
        Rank 0's.
    rank : int
    """

    def __init__(self, size: int, identifier: bytes, rank: int) -> None:
        from cupy.cuda import nccl

        self._nccl: Any = nccl
        self.size = size
        try:
            self._comm = nccl.NcclCommunicator(size, identifier, rank)
        except nccl.NcclError as error:
            raise BackendUnavailableError(
                f"NCCL cannot start rank {rank} of {size}: {error}; each rank needs a GPU of its own "
                "(NCCL_DEBUG=WARN says more). Ranks that share a GPU can talk through MPI: --distributed mpi"
            ) from error
        self._types = {
            "float32": nccl.NCCL_FLOAT32,
            "float64": nccl.NCCL_FLOAT64,
            "int64": nccl.NCCL_INT64,
            "int32": nccl.NCCL_INT32,
        }

    def sum_(self, a: Array) -> None:
        """Sum a CuPy array over the ranks in place, on the current stream; half types in float32."""
        import cupy

        if a.dtype.itemsize < 4 or not a.flags.c_contiguous:
            wide = a.astype(cupy.float32 if a.dtype.itemsize < 4 else a.dtype, order="C")
            self.sum_(wide)
            a[...] = wide.astype(a.dtype, copy=False)
            return
        pointer, stream = a.data.ptr, cupy.cuda.get_current_stream().ptr
        self._comm.allReduce(pointer, pointer, a.size, self._types[a.dtype.name], self._nccl.NCCL_SUM, stream)

    def stack(self, a: Array) -> Array:
        """Return (size, ...) of the CuPy arrays of all ranks, on the current stream."""
        import cupy

        own = cupy.ascontiguousarray(a)
        out = cupy.empty((self.size, *own.shape), own.dtype)
        stream = cupy.cuda.get_current_stream().ptr
        self._comm.allGather(own.data.ptr, out.data.ptr, own.size, self._types[own.dtype.name], stream)
        return out
