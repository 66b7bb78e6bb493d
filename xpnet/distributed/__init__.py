"""Training on several processes: one rank for each GPU or group of cores, connected by MPI or NCCL.

>>> from xpnet.distributed import SingleCommunicator
>>> SingleCommunicator().size
1

Nothing of MPI is loaded before `connect` or a communicator is made.
"""

from xpnet.distributed.communicator import Communicator, SingleCommunicator
from xpnet.distributed.faults import ending_together
from xpnet.distributed.launch import connect
from xpnet.distributed.mpi import MpiCommunicator
from xpnet.distributed.nccl import NcclCommunicator
from xpnet.distributed.parallel import DataParallel
from xpnet.distributed.sync_norm import (
    SyncBatchNorm,
    sync_batch_norm_backward,
    sync_batch_norm_forward,
    synchronize_batch_norm,
)

__all__ = [
    "Communicator",
    "DataParallel",
    "MpiCommunicator",
    "NcclCommunicator",
    "SingleCommunicator",
    "SyncBatchNorm",
    "connect",
    "ending_together",
    "sync_batch_norm_backward",
    "sync_batch_norm_forward",
    "synchronize_batch_norm",
]
