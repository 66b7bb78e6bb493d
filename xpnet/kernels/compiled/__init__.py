"""Kernels for NumPy's arrays compiled by Numba, which is optional; it is imported when the first of them is used."""

from xpnet.kernels.compiled import conv, depthwise, gated, loader, passes, pool, special, winograd

__all__ = ["conv", "depthwise", "gated", "loader", "passes", "pool", "special", "winograd"]
