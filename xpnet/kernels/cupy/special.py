"""The error function for CuPy."""

from __future__ import annotations

from cupyx.scipy.special import erf as cupyx_erf

from xpnet.backend import Array
from xpnet.kernels.table import register

__all__ = ["erf"]


@register("cupy", "erf")
def erf(x: Array) -> Array:
    """Return the error function of each element."""
    return cupyx_erf(x).astype(x.dtype, copy=False)
