"""Special functions of torch."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["erf"]


@register("torch", "erf")
def erf(x: Array) -> Array:
    """Return the error function of each element."""
    return torch.erf(x)
