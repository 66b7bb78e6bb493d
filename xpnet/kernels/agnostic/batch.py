"""Batches of samples as they are stored: gathered, laid out as images like to lie, and made floats."""

from __future__ import annotations

from typing import Any

import array_api_compat

from xpnet.backend import Array, array_namespace, device_of
from xpnet.kernels.layout import inverse
from xpnet.kernels.table import register

__all__ = ["gather_batch", "to_float"]


@register("agnostic", "gather_batch")
def gather_batch(
    stored: Array, rows: Array, order: tuple[int, ...], kind: str, scale: tuple[float, float] | None, dtype: Any
) -> Array:
    """Return rows of samples as `to_float` makes them of their `kind`; they lie in memory in an order of their axes."""
    xp = array_namespace(stored)
    x = xp.take(stored, rows, axis=0)
    if order == tuple(range(len(order))):
        return to_float(x, kind, scale, dtype)
    part, x = xp.permute_dims(x, order), None  # transposed as bytes, which are a quarter of the floats
    x = xp.empty(tuple(part.shape), dtype=part.dtype, device=device_of(part))
    x[...] = part
    return xp.permute_dims(to_float(x, kind, scale, dtype), inverse(order))


@register("agnostic", "to_float")
def to_float(x: Array, kind: str, scale: tuple[float, float] | None, dtype: Any, *, copy: bool = False) -> Array:
    """Scale a batch that was stored as `kind` and give it its float type; `copy` says that `x` is not to be kept."""
    xp = array_namespace(x)
    if scale is None and kind == "f":
        return xp.astype(x, dtype, copy=copy)
    y = xp.astype(x, xp.float32)  # a copy: in place is allowed
    if scale is None:
        # By a number, torch multiplies with the reciprocal on a GPU, which differs in the last bit from what the other
        # backends give; there an array is the divisor, whose filling would be a launch more on CuPy.
        is_torch = array_api_compat.is_torch_namespace(xp)
        y /= xp.full((1,), 255.0, dtype=xp.float32, device=device_of(y)) if is_torch else 255.0
    else:
        y *= scale[0]
        y += scale[1]
    return xp.astype(y, dtype, copy=False)
