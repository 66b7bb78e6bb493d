"""Kernels for NumPy: where writing into memory that is there, or another order of work, saves passes over it."""

from xpnet.kernels.memory import prepare
from xpnet.kernels.numpy import conv, depthwise, elementwise, norm, optim, pool, product, winograd

__all__ = ["conv", "depthwise", "elementwise", "norm", "optim", "pool", "prepare", "product", "winograd"]
