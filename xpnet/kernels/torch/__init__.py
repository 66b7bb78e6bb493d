"""Kernels for torch: PyTorch's own operations; imported when the first torch array comes by.

They are called below autograd, so they build no graph.
"""

from xpnet.kernels.memory import prepare
from xpnet.kernels.torch import activation, conv, linear, loss, norm, optim, pool, special

__all__ = ["activation", "conv", "linear", "loss", "norm", "optim", "pool", "prepare", "special"]
