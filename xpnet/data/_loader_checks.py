"""What `Loader` accepts, and what it says about anything else."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend
from xpnet.backend import Array


def checked_int(name: str, value: Any, low: int, expected: str) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not low <= number < 1 << 64:
        raise ValueError(f"Loader: {name} is {value!r} ({type(value).__name__}); give a whole number, {expected}")
    return number


def checked_targets(t: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if t.ndim == 1 and t.dtype.kind in "iu":
        return t.astype(np.int64)
    if t.ndim == 2 and t.dtype.kind == "f":
        return np.ascontiguousarray(t)
    raise ValueError(
        f"Loader: t has shape {t.shape} and type {t.dtype}; expected class numbers as integers (N,), or "
        "targets as floats (N, K): t.astype('int64') makes the one, "
        "t.reshape(len(t), -1).astype('float32') the other"
    )


def checked_size(x: npt.NDArray[Any], t: npt.NDArray[Any]) -> int:
    if x.ndim == 0 or len(x) != len(t):
        raise ValueError(
            f"Loader: x has shape {x.shape} but t has shape {t.shape}; "
            "both need one entry per sample on their first axis"
        )
    if x.size == 0 or t.size == 0:
        raise ValueError(f"Loader: nothing to load, x has shape {x.shape} and t {t.shape}; pass at least one sample")
    return len(x)


def checked_scale(scale: Any, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    if dtype.kind not in "fiub" or (scale is None and dtype.kind != "f" and dtype != np.uint8):
        raise ValueError(
            f"Loader: x is {dtype}; expected uint8 or floats, or other integers together with scale=(a, b), "
            "which makes x * a + b"
        )
    if scale is None:
        return None
    try:
        a, b = (float(number) for number in scale)
    except (TypeError, ValueError):
        a = b = np.nan
    if not (np.isfinite(a) and np.isfinite(b)):
        raise ValueError(f"Loader: scale is {scale!r}; give two numbers (a, b), which make x * a + b, or None")
    return a, b


def dtype_name(dtype: Any) -> str:
    """Name of a float type given as its name or as the type object of any library."""
    name = dtype if isinstance(dtype, str) else backend.dtype_name(dtype)
    if name not in backend.DTYPES:
        raise ValueError(f"Loader: dtype is {dtype!r}; choose from {', '.join(backend.DTYPES)}, or None")
    return name


def checked_place(on_device: Any) -> bool | str:
    if on_device is True or on_device is False or on_device == "auto":
        return on_device
    raise ValueError(f"Loader: on_device is {on_device!r}; give True, False or 'auto'")


def checked_augmented(result: Any, size: int, augment: Any) -> tuple[Array, Array]:
    """Return what `augment` made of a batch of `size` samples, if it is still one."""
    if isinstance(result, tuple) and len(result) == 2:
        x, t = result
        if all(len(getattr(part, "shape", ())) > 0 and part.shape[0] == size for part in result):
            return x, t
    parts = result if isinstance(result, tuple) else (result,)
    found = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
    raise ValueError(
        f"Loader: augment {augment!r} returned ({found}) for a batch of {size} samples; "
        "return a pair (x, t) with as many samples in both"
    )
