"""The heavy operations in standard-only code: correct on every library, and the reference for faster kernels.

Kernels get arguments that the functional layer has already checked.
"""

from xpnet.kernels.agnostic import (
    activation,
    add,
    batch,
    bin_pool,
    clip,
    conv,
    curves,
    depthwise,
    dropout,
    gated,
    gradient,
    group_norm,
    linear,
    local_response,
    loss,
    metrics,
    norm,
    optim,
    pool,
    relu,
    special,
    winograd,
)

__all__ = [
    "activation",
    "add",
    "batch",
    "bin_pool",
    "clip",
    "conv",
    "curves",
    "depthwise",
    "dropout",
    "gated",
    "gradient",
    "group_norm",
    "linear",
    "local_response",
    "loss",
    "metrics",
    "norm",
    "optim",
    "pool",
    "relu",
    "special",
    "winograd",
]
