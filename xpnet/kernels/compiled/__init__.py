"""Kernels for NumPy's arrays compiled by Numba, which is optional; it is imported when the first of them is used."""

from xpnet.kernels import team
from xpnet.kernels.compiled import awake, conv, depthwise, gated, loader, passes, pool, special, winograd

__all__ = ["awake", "conv", "depthwise", "gated", "loader", "passes", "pool", "prepare", "special", "winograd"]


def prepare() -> None:
    """Let the threads of the kernels wait awake."""
    team.stay_awake_by(awake.watch)
