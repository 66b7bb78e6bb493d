"""LAMB's update for CuPy: the flat arrays of a whole model in three launches."""

from __future__ import annotations

import functools
from typing import Any

import cupy
import numpy as np

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import optim
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import THREADS, contiguous, launch, launch_grid
from xpnet.kernels.cupy.optim import rates_of
from xpnet.kernels.table import register

__all__ = ["lamb_update"]

CHUNK = 16384  # weights of one parameter that a block takes


@functools.lru_cache(maxsize=16)
def _chunks(parts: tuple[tuple[int, int], ...], gpu: int) -> Array:
    """Return (start, stop, first chunk of the parameter, one after its last) of every chunk, on the current GPU."""
    rows: list[tuple[int, ...]] = []
    for start, stop in parts:
        cuts, first = range(start, stop, CHUNK), len(rows)
        rows += [(a, min(a + CHUNK, stop), first, first + len(cuts)) for a in cuts]
    return cupy.asarray(np.array(rows, dtype=np.uint64))


@register("cupy", "lamb_update")
def lamb_update(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    decay: Array | None,
    parts: list[Any],
) -> None:
    """u = m^ / (sqrt(v^) + eps) + decay w;  w -= lr |w| / |u| u, the norms taken over each of `parts`."""
    if not all(a.flags.c_contiguous and a.dtype == w.dtype for a in (w, g, m, v)):
        numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "step": step}
        optim.lamb_update(w, g, m, v, **numbers, decay=decay, parts=parts)
        return
    bounds = tuple((0, w.size) if part is ... else (part.start, part.stop) for part in parts)
    chunks = _chunks(bounds, cupy.cuda.runtime.getDevice())
    u, partial = cupy.empty_like(w), cupy.empty((len(chunks), 2), wide_dtype(cupy, w.dtype))
    corrections = 1.0 / (1.0 - beta1**step), (1.0 - beta2**step) ** -0.5
    launch("lamb", "lamb_step", w, w.size, w, g, m, v, contiguous(decay, w.dtype), u, beta1, beta2, eps, *corrections,
           w.size)  # fmt: skip
    grid = (w.dtype, is_wide(w.size), (len(chunks),), THREADS)
    launch_grid("lamb", "lamb_norms", *grid, w, u, chunks, partial)
    launch_grid("lamb", "lamb", *grid, w, u, chunks, partial, *rates_of(lr, w))
