"""The heavy operations in standard-only code: correct on every library, and the reference for faster kernels.

Kernels get arguments that the functional layer has already checked.
"""

from xpnet.kernels.agnostic import conv, loss, norm, optim, pool, special

__all__ = ["conv", "loss", "norm", "optim", "pool", "special"]
