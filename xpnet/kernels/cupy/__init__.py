"""Kernels for CuPy: each operation in one or two launches of the CUDA sources in `xpnet.kernels.cuda`.

Imported when the first CuPy array comes by. Nothing here waits for the device.
"""

from xpnet.kernels.cupy import (
    activation,
    batch,
    bias,
    clip,
    conv,
    cudnn,
    curves,
    depthwise,
    dropout,
    element_loss,
    gated,
    gradient,
    graph,
    group_norm,
    lamb,
    loss,
    matmul,
    metrics,
    norm,
    optim,
    pool,
    special,
)

__all__ = [
    "activation",
    "batch",
    "bias",
    "clip",
    "conv",
    "cudnn",
    "curves",
    "depthwise",
    "dropout",
    "element_loss",
    "gated",
    "gradient",
    "graph",
    "group_norm",
    "lamb",
    "loss",
    "matmul",
    "metrics",
    "norm",
    "optim",
    "pool",
    "special",
]
