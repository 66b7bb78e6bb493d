"""One batch: rows gathered on the host, sent to the device, and only there made floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend
from xpnet.backend import Array, Backend

Rows = npt.NDArray[np.int64]

_BLOCK = 32  # rows gathered at a time, so that they stay in the first-level cache while transposed


def samples(
    stored: npt.NDArray[Any], rows: Rows, scale: tuple[float, float] | None, chosen: Backend, dtype: Any
) -> Array:
    """Return the rows as floats on the device, the batch innermost in memory if they are images."""
    xp = chosen.xp
    on_host = _gather(stored, rows, _host_dtype(stored.dtype, xp, dtype))
    x = _to_float(xp.asarray(on_host, device=chosen.device), stored.dtype.kind, scale, xp, dtype)
    if stored.ndim < 3:
        return x
    shape = stored.shape[1:]
    return xp.permute_dims(xp.reshape(x, (*shape, rows.size)), (len(shape), *range(len(shape))))


def targets(stored: npt.NDArray[Any], rows: Rows, chosen: Backend, dtype: Any) -> Array:
    """Return the labels of the rows on the device; float targets in the float type."""
    xp = chosen.xp
    t = np.take(stored, rows, axis=0)
    if t.ndim == 1:
        return xp.asarray(t, device=chosen.device)
    on_host = t.astype(_host_dtype(t.dtype, xp, dtype), copy=False)
    return xp.astype(xp.asarray(on_host, device=chosen.device), dtype, copy=False)


def _host_dtype(stored: np.dtype[Any], xp: Any, dtype: Any) -> np.dtype[Any]:
    """Type in which samples leave the host to become `dtype`: no wider than need be, known to `xp`."""
    if stored.name in ("float16", "float64") and getattr(xp, stored.name, None) == dtype:
        return stored.newbyteorder("=")
    return np.dtype(np.uint8 if stored == np.uint8 else np.float32)


def _gather(stored: npt.NDArray[Any], rows: Rows, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Copy rows to (n, ...), or to (elements of a sample, n) where there are two axes or more."""
    if stored.ndim < 3:
        return np.take(stored, rows, axis=0).astype(dtype, copy=False)
    out = np.empty((stored[0].size, rows.size), dtype=dtype)
    for start in range(0, rows.size, _BLOCK):
        block = np.take(stored, rows[start : start + _BLOCK], axis=0)
        out[:, start : start + _BLOCK] = block.reshape(len(block), -1).T
    return out


def _to_float(x: Array, kind: str, scale: tuple[float, float] | None, xp: Any, dtype: Any) -> Array:
    if scale is None and kind == "f":
        return xp.astype(x, dtype, copy=False)
    y = xp.astype(x, xp.float32)  # a copy: in place is allowed
    if scale is None:
        # An array as divisor: by a number, torch multiplies with the reciprocal on a GPU, which
        # differs in the last bit from what the other backends give.
        y /= xp.full((1,), 255.0, dtype=xp.float32, device=backend.device_of(y))
    else:
        y *= scale[0]
        y += scale[1]
    return xp.astype(y, dtype, copy=False)
