"""Optimizer updates for NumPy: one pass over the flat arrays in blocks that stay in cache, without temporaries."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.cores import threads_allowed
from xpnet.kernels.agnostic import optim
from xpnet.kernels.table import register
from xpnet.kernels.team import cut, parts_worth, run_all

__all__ = ["adam_update"]

BLOCK = 1 << 14  # elements: six arrays of them fit the second-level cache, whatever the CPU


@register("numpy", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float | Array, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    if w.dtype.char not in "fd" or not all(a.flags.c_contiguous for a in (w, g, m, v)):
        optim.adam_update(w, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)
        return
    rate: Any = lr / (1.0 - beta1**step)
    root = (1.0 - beta2**step) ** -0.5
    rate = rate if np.ndim(rate) == 0 else np.reshape(rate, -1)
    w, g, m, v = (a.reshape(-1) for a in (w, g, m, v))

    def update(some: slice) -> None:
        scratch = np.empty((2, min(BLOCK, w.size)), dtype=w.dtype)
        for start in range(some.start, some.stop, BLOCK):
            part = slice(start, min(start + BLOCK, some.stop))
            wp, gp, mp, vp = w[part], g[part], m[part], v[part]
            t, change = scratch[:, : wp.size]
            mp *= beta1
            mp += np.multiply(gp, 1.0 - beta1, out=t)
            vp *= beta2
            np.multiply(gp, gp, out=t)
            t *= 1.0 - beta2
            vp += t
            np.sqrt(vp, out=t)
            t *= root
            t += eps
            np.multiply(mp, rate if np.ndim(rate) == 0 else rate[part], out=change)
            change /= t
            wp -= change

    parts = cut(w.size, parts_worth(threads_allowed(), w.size, w.size))
    run_all([functools.partial(update, part) for part in parts])
