"""Calling loops that go through arrays element by element, in the order of their memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.kernels.compiled import loader
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.team import run_ranges

__all__ = ["applied"]


def applied(
    module: str, kernel: str, arrays: Sequence[np.ndarray], work: int, overwrite: bool | None = None
) -> np.ndarray | None:
    """Return what a kernel makes of arrays of one shape, in their type, or None where it cannot be used.

    Images are brought into batch-innermost order, others have to lie in C order. An element is worth `work` that are
    read. `overwrite`, if given, goes to the kernel: whether the result may be where the first array is.
    """
    first = arrays[0]
    images = first.ndim == 4
    if not (images or all(a.flags.c_contiguous for a in arrays)) or not loader.takes(module, kernel, first):
        return None
    lying = [batch_innermost(np, a) if images else a for a in arrays]
    given = [flat(a) for a in lying]
    made = given[0] if overwrite else np.empty_like(given[0])
    over = () if overwrite is None else (overwrite,)
    run_ranges(loader.kernel(module, kernel, first.dtype), (*given, made, *over), made.size, work * made.size)
    y = made.reshape(lying[0].shape)
    return batch_first(np, y) if images else y
