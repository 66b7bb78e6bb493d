"""From a process that a launcher started to a communicator, with the GPU that is this rank's."""

from __future__ import annotations

import importlib
import logging
import os
import socket

from xpnet import backend
from xpnet.backend.cuda import device_of_rank, gpu_identity
from xpnet.backend.nccl import why_no_nccl
from xpnet.cores import THREAD_VARIABLES
from xpnet.distributed.communicator import Communicator
from xpnet.distributed.faults import install
from xpnet.distributed.mpi import MpiCommunicator
from xpnet.distributed.nccl import NcclCommunicator

__all__ = ["KINDS", "choose", "connect", "join"]

KINDS = ("auto", "mpi", "nccl")

logger = logging.getLogger("xpnet")


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
    return choose(join(), kind, backend_name=backend_name, dtype=dtype)


def join() -> MpiCommunicator:
    """Join the ranks, without selecting a backend: the first half of `connect`.

    Each rank gets its part of the cores that it shares with others, unless the environment sets a number of threads.
    """
    comm = MpiCommunicator()
    install(comm)
    _share_cores(comm)
    return comm


def choose(
    comm: Communicator, kind: str = "auto", *, backend_name: str | None = None, dtype: str | None = None
) -> Communicator:
    """Select the backend with this rank's GPU, and NCCL where it is wanted: the second half of `connect`."""
    if kind not in KINDS:
        raise ValueError(f"connect: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    chosen = backend.use(device_of_rank(backend_name, comm.local_rank), dtype=dtype)
    own = gpu_identity(chosen)
    places = comm.gather_objects(None if own is None else (socket.gethostname(), own))
    apart = None not in places and len(set(places)) == len(places)
    if kind == "nccl" or (kind == "auto" and apart and not comm.any(why_no_nccl() is not None)):
        return NcclCommunicator(comm)
    return comm


def _share_cores(comm: Communicator) -> None:
    """Let the ranks of a machine use as many threads together as it has cores: more wait for each other."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    machine = [c for host, c in comm.gather_objects((socket.gethostname(), cores)) if host == socket.gethostname()]
    threads = max(1, min(len(cores), len(set().union(*machine)) // len(machine)))
    if len(machine) == 1 or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are not loaded yet, and the compiled kernels
    try:
        importlib.import_module("threadpoolctl").threadpool_limits(threads)
    except ImportError:
        logger.warning("set OPENBLAS_NUM_THREADS=%d: threadpoolctl, which would do it, is not installed", threads)
