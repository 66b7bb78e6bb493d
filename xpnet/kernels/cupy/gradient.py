"""Adding the gradients of a backward to those of the model for CuPy: a launch for up to 128 arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import THREADS, address, check_device, launch_grid
from xpnet.kernels.table import register

__all__ = ["add_all", "bytes_to_wait"]

MOST = 128  # arrays in a launch: its arguments may take 4 KB
ADDITIONS = np.dtype([(name, np.int64, MOST) for name in ("sums", "terms", "sizes")])  # of gradient.cu
MOST_BLOCKS = 128  # for one array


@register("cupy", "bytes_to_wait")
def bytes_to_wait() -> int:
    """Return how many bytes of gradients may wait for one another, to be added by one call of `add_all`."""
    return 64 << 20


@register("cupy", "add_all")
def add_all(sums: Sequence[Array], terms: Sequence[Array]) -> None:
    """Add to each array, in place, the term of its shape and type; no two sums share memory."""
    check_device("add_all", *sums, *terms)
    by_type: dict[object, list[tuple[Array, Array]]] = {}
    for total, term in zip(sums, terms, strict=True):
        fits = total.shape == term.shape and total.dtype == term.dtype
        if fits and total.flags.c_contiguous and term.flags.c_contiguous:
            by_type.setdefault(total.dtype, []).append((total, term))
        else:
            total += term
    for pairs in by_type.values():
        for first in range(0, len(pairs), MOST):
            _add(pairs[first : first + MOST])


def _add(pairs: list[tuple[Array, Array]]) -> None:
    arguments = np.zeros((), ADDITIONS)
    for n, (total, term) in enumerate(pairs):
        arguments["sums"][n], arguments["terms"][n], arguments["sizes"][n] = address(total), address(term), total.size
    largest = max(total.size for total, _ in pairs)
    grid = (max(1, min(MOST_BLOCKS, -(-largest // THREADS))), len(pairs))
    launch_grid("gradient", "add_all", pairs[0][0].dtype, is_wide(largest), grid, THREADS, arguments)
