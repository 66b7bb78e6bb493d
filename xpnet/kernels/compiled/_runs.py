"""Runs of pixels in a row that see the same taps of a window, for loops over them; `runs.py` makes their lists."""

from typing import Any

from numba import types

from xpnet.kernels.compiled._compile import inline

lists_type, geometry_type = types.UniTuple(types.int64[::1], 4), types.UniTuple(types.int64, 10)


@inline
def seen(shifts: Any, at: int, groups: int, k: int, move: int, size: int, pixels: int) -> tuple[int, int, int]:
    """Return which groups of taps pixel k of a row sees, from the first to behind the last, and the end of its run.

    The pixel sees a group if ``shifts[at + group] + k * move`` is within 0 and `size`.
    """
    first, last, most = groups, 0, 0
    for group in range(groups):
        if 0 <= shifts[at + group] + k * move < size:
            first, last = min(first, group), group + 1
        most = max(most, shifts[at + group])
    if first == 0 and last == groups:
        return 0, groups, max(k + 1, min(pixels, (size - most - 1) // move + 1))
    return min(first, last), last, k + 1


@inline
def run_of(pixels: int, N: int, move: int, apart: int) -> tuple[int, int, tuple[int, int]]:
    """Return of a run of pixels how many pieces it is, their length, and the steps between those written and read."""
    if move == 1 and apart == 1:
        return 1, pixels * N, (0, 0)
    return pixels, N, (apart * N, move * N)
