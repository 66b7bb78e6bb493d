"""Kernels for NumPy: where writing into memory that is there, or another order of work, saves passes over it."""

from xpnet.kernels.numpy import conv, depthwise, memory, norm, optim, pool, product, relu, winograd
from xpnet.kernels.numpy.memory import prepare

__all__ = ["conv", "depthwise", "memory", "norm", "optim", "pool", "prepare", "product", "relu", "winograd"]
