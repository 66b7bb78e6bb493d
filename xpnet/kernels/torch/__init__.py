"""Kernels for torch: PyTorch's own operations; imported when the first torch array comes by.

They build no graph of arrays that require no gradients, and nothing in xpnet asks for any. Of a user's tensors that do,
autograd records what it knows, the forward of a convolution for instance.
"""

from xpnet.kernels.memory import prepare
from xpnet.kernels.torch import activation, conv, gradient, linear, loss, norm, optim, pool, special

__all__ = ["activation", "conv", "gradient", "linear", "loss", "norm", "optim", "pool", "prepare", "special"]
