"""One batch: rows gathered on the host, sent to the device, and only there made floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend
from xpnet.backend import Array, Backend
from xpnet.kernels import find
from xpnet.kernels.layout import inverse

Rows = npt.NDArray[np.int64]

_BLOCK = 32  # rows gathered at a time, so that they stay in the first-level cache while transposed


def samples(
    stored: npt.NDArray[Any], rows: Rows, scale: tuple[float, float] | None, chosen: Backend, dtype: Any
) -> Array:
    """Return the rows as floats on the device; images lie in memory as its kernels like them."""
    xp = chosen.xp
    order = find("image_order", xp)() if stored.ndim == 4 else (*range(1, stored.ndim), 0)
    on_host = _gather(stored, rows, _host_dtype(stored.dtype, xp, dtype), order)
    x = _to_float(xp.asarray(on_host, device=chosen.device), stored.dtype.kind, scale, xp, dtype)
    return x if stored.ndim < 3 else xp.permute_dims(x, inverse(order))


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


def _gather(stored: npt.NDArray[Any], rows: Rows, dtype: np.dtype[Any], order: tuple[int, ...]) -> npt.NDArray[Any]:
    """Copy rows to (n, ...), or where there are two axes or more to an array whose axes come in an order."""
    if stored.ndim < 3:
        return np.take(stored, rows, axis=0).astype(dtype, copy=False)
    shape = (rows.size, *stored.shape[1:])
    out = np.empty([shape[axis] for axis in order], dtype=dtype)
    by_row = out.transpose(inverse(order))
    for start in range(0, rows.size, _BLOCK):
        block, target = np.take(stored, rows[start : start + _BLOCK], axis=0), by_row[start : start + _BLOCK]
        if order[-1] != 1:
            target[...] = block
            continue
        for channel in range(shape[1]):  # else NumPy's inner loop would be as short as the channels are few
            target[:, channel] = block[:, channel]
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
