"""From a process that a launcher started to a communicator, with the GPU that is this rank's."""

from __future__ import annotations

import socket

from xpnet import backend
from xpnet.backend.cuda import device_of_rank, gpu_identity
from xpnet.backend.nccl import why_no_nccl
from xpnet.distributed.communicator import Communicator
from xpnet.distributed.faults import install
from xpnet.distributed.mpi import MpiCommunicator
from xpnet.distributed.nccl import NcclCommunicator

__all__ = ["KINDS", "connect"]

KINDS = ("auto", "mpi", "nccl")


def connect(kind: str = "auto", *, backend_name: str | None = None, dtype: str | None = None) -> Communicator:
    """Join the ranks that ``mpiexec`` or ``srun`` has started, and select the backend with this rank's own GPU.

    From then on an exception that nobody catches, on any rank, ends all of them.

    Parameters
    ----------
    kind : {"auto", "mpi", "nccl"}, default "auto"
        "auto" is NCCL where the arrays are CuPy's and every rank has a GPU of its own, else MPI.
    backend_name : str, optional
        As for `xpnet.backend.use`. Where it names no device (``"auto"``, ``"cupy"``, ``"torch:cuda"``), rank r of a
        machine takes GPU number r, beginning again when there are fewer.
    dtype : str, optional

    Returns
    -------
    Communicator

    Raises
    ------
    MissingDependencyError
        If mpi4py or an MPI library is not installed.
    BackendUnavailableError
        If the backend, or NCCL where it is asked for, cannot be used.
    ValueError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"connect: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    comm: Communicator = MpiCommunicator()
    install(comm)
    chosen = backend.use(device_of_rank(backend_name, comm.local_rank), dtype=dtype)
    own = gpu_identity(chosen)
    places = comm.gather_objects(None if own is None else (socket.gethostname(), own))
    apart = None not in places and len(set(places)) == len(places)
    if kind == "nccl" or (kind == "auto" and apart and not comm.any(why_no_nccl() is not None)):
        return NcclCommunicator(comm)
    return comm
