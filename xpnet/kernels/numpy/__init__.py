"""Kernels for NumPy: where writing into memory that is there, or another order of work, saves passes over it."""

from xpnet.kernels.numpy import conv, depthwise, norm, optim, pool, relu, winograd

__all__ = ["conv", "depthwise", "norm", "optim", "pool", "relu", "winograd"]
