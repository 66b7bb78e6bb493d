"""Kernels for NumPy: where writing into memory that is there, or another order of work, saves passes over it."""

from xpnet.kernels.numpy import conv, depthwise, elementwise, memory, norm, optim, pool, product, winograd
from xpnet.kernels.numpy.memory import prepare

__all__ = ["conv", "depthwise", "elementwise", "memory", "norm", "optim", "pool", "prepare", "product", "winograd"]
