"""The heavy operations in standard-only code: correct on every library, and the reference for faster kernels.

Kernels get arguments that the functional layer has already checked.
"""

from xpnet.kernels.agnostic import (
    bin_pool,
    conv,
    depthwise,
    group_norm,
    local_response,
    loss,
    norm,
    optim,
    pool,
    relu,
    special,
    winograd,
)

__all__ = [
    "bin_pool",
    "conv",
    "depthwise",
    "group_norm",
    "local_response",
    "loss",
    "norm",
    "optim",
    "pool",
    "relu",
    "special",
    "winograd",
]
