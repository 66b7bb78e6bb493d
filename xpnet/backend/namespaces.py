"""Which library, device and float type an array belongs to."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from xpnet.backend.bfloat16 import bfloat16_of_cupy
from xpnet.errors import ArrayMismatchError, BackendUnavailableError, DTypeError
from xpnet.text import no_such

__all__ = [
    "DTYPES",
    "Array",
    "array_namespace",
    "bounded",
    "device_of",
    "dtype_by_name",
    "dtype_name",
    "finfo",
    "has_writable_views",
    "is_half",
    "is_on_host",
    "named_dtype",
    "remember_namespace",
    "sign",
    "wide_dtype",
]

Array = Any  # the standard defines no common base class

DTYPES = ("float32", "float64", "float16", "bfloat16")

_TELLING: set[type] = set()  # array types whose own `device` it is, without microseconds of looking
_NAMESPACES: dict[type, Any] = {}  # array type -> namespace: a dict look-up where compat takes a microsecond


def array_namespace(x: Array, *others: Array) -> Any:
    """Return the array API namespace that all the given arrays belong to.

    Parameters
    ----------
    x, *others : array
        None among `others` is skipped, so that optional arguments can be passed as they are.

    Raises
    ------
    DTypeError
        If something is no array of a known library.
    ArrayMismatchError
        If the arrays come from different libraries.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.backend import array_namespace
    >>> array_namespace(np.ones(3)).__name__
    'array_api_compat.numpy'
    """
    xp = _NAMESPACES.get(type(x)) or _find_namespace(x)
    for other in others:
        if other is None or type(other) is type(x):
            continue
        if (_NAMESPACES.get(type(other)) or _find_namespace(other)) is not xp:
            raise ArrayMismatchError(
                "array_namespace",
                f"arrays of two libraries in one call: {_library(x)} and {_library(other)}; "
                "move one with xpnet.backend.asarray or xpnet.backend.to_numpy",
            )
    return xp


def _find_namespace(x: Any) -> Any:
    try:
        xp = array_api_compat.array_namespace(x)
    except TypeError as error:
        raise DTypeError(
            "array_namespace",
            f"expected an array, got {type(x).__name__} ({str(x)[:40]}); make one with xpnet.backend.asarray",
        ) from error
    _NAMESPACES[type(x)] = xp
    return xp


def remember_namespace(xp: Any) -> None:
    """Let arrays that no one else knows belong to `xp`; those of a known library keep their namespace."""
    sample = xp.empty(0)
    if type(sample) not in _NAMESPACES:
        try:
            _find_namespace(sample)
        except DTypeError:
            _NAMESPACES[type(sample)] = xp


def _library(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def device_of(x: Array) -> Any:
    """Return the device that holds the array (``"cpu"`` for NumPy), to pass as ``device=``."""
    if isinstance(x, np.ndarray):
        return "cpu"
    if type(x) not in _TELLING:
        if not (array_api_compat.is_torch_array(x) or array_api_compat.is_cupy_array(x)):
            return array_api_compat.device(x)
        _TELLING.add(type(x))
    return x.device


def is_on_host(x: Array) -> bool:
    """Tell whether reading a value of the array costs no wait for a device.

    Checks of values (labels in range, a loss that is finite) run where this holds; on a GPU they
    would stall the queue of kernels, so there a bad value turns into NaN, which the trainer
    reports when it reads the loss.
    """
    if isinstance(x, np.ndarray):
        return True
    device = device_of(x)
    return "cpu" in str(getattr(device, "type", device)).lower()  # "cpu", "array_api_strict.Device('CPU_DEVICE')"


def dtype_by_name(xp: Any, name: str) -> Any:
    """Return the float type called `name` in a namespace.

    Raises
    ------
    BackendUnavailableError
        If the name is none of float32, float64, float16, bfloat16, or the library lacks that type.
    """
    if name not in DTYPES:
        raise BackendUnavailableError(f"{no_such('float type', name, DTYPES)}, by XPNET_DTYPE or dtype=...")
    dtype = named_dtype(xp, name)
    if dtype is None:
        library = xp.__name__.rpartition(".")[2]
        raise BackendUnavailableError(
            f"{library} has no {name}; take float32 (by XPNET_DTYPE or dtype=...) or a backend that has it"
        )
    return dtype


def named_dtype(xp: Any, name: str) -> Any | None:
    """Return what a namespace calls `name`, or CuPy's bfloat16, for which it has no name; None if there is none."""
    if name == "bfloat16" and array_api_compat.is_cupy_namespace(xp):
        return bfloat16_of_cupy()
    return getattr(xp, name, None)


def is_half(xp: Any, dtype: Any) -> bool:
    """Tell whether a dtype is float16 or bfloat16."""
    if isinstance(dtype, np.dtype):  # of CuPy too, which has no name for bfloat16
        return dtype.itemsize == 2 and dtype.name in ("float16", "bfloat16")
    # a missing type must not be compared as None: NumPy's float64 equals None
    return any(dtype == getattr(xp, name) for name in ("float16", "bfloat16") if hasattr(xp, name))


def wide_dtype(xp: Any, dtype: Any) -> Any:
    """Return the type to sum in: float32 for the half types, else `dtype` itself, in the machine's byte order."""
    if is_half(xp, dtype):
        return xp.float32
    return dtype.newbyteorder("=") if isinstance(dtype, np.dtype) and not dtype.isnative else dtype


def dtype_name(dtype: Any) -> str:
    """Return the name of a float type of any library: ``"float32"`` for ``torch.float32``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.backend import dtype_name
    >>> dtype_name(np.ones(1).dtype)
    'float64'
    """
    return getattr(dtype, "__name__", str(dtype)).rpartition(".")[2]


def finfo(xp: Any, dtype: Any) -> Any:
    """Return the limits of a float type, as ``xp.finfo``, which does not know CuPy's bfloat16."""
    if isinstance(dtype, np.dtype) and dtype.name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return xp.finfo(dtype)


def bounded(xp: Any, x: Array, low: float, high: float) -> Array:
    """Return min(max(x, low), high) of each element; NaN stays.

    ``xp.clip`` of CuPy picks elements by a mask, and so waits for the GPU.

    Parameters
    ----------
    xp : namespace
        Of `x`.
    x : array of any shape
    low, high : float
        For an array of integers, int.

    Returns
    -------
    array, shape and type of `x`
        A new one.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import backend
    >>> backend.bounded(np, np.array([-2.0, 0.5, 9.0]), -1.0, 1.0)
    array([-1. ,  0.5,  1. ])
    """
    if type(x) is np.ndarray:
        return np.clip(x, low, high)  # in one pass
    y = xp.minimum(xp.maximum(x, low), high)
    return y if y.dtype == x.dtype else xp.astype(y, x.dtype)  # of bfloat16 CuPy makes float32


def sign(xp: Any, x: Array) -> Array:
    """Return -1, 0, 1 or NaN for each element.

    ``xp.sign`` of CuPy marks NaN by a mask, and so waits for the GPU.

    Parameters
    ----------
    xp : namespace
        Of `x`.
    x : array of any shape, float

    Returns
    -------
    array, shape and type of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import backend
    >>> backend.sign(np, np.array([-2.0, 0.0, 9.0]))
    array([-1.,  0.,  1.])
    """
    if not array_api_compat.is_cupy_namespace(xp):
        return xp.sign(x)
    import cupy

    return xp.astype(xp.where(x == x, cupy.sign(x), x), x.dtype, copy=False)  # before 14.2 it makes 0 of NaN


_WRITABLE_VIEWS: dict[Any, bool] = {}


def has_writable_views(xp: Any) -> bool:
    """Tell whether writing to a reshaped slice of an array changes that array (one probe per library)."""
    if xp not in _WRITABLE_VIEWS:
        try:
            whole = xp.zeros(4, dtype=xp.float32)
            part = xp.reshape(whole[1:3], (2, 1))
            part[...] = 1.0
            _WRITABLE_VIEWS[xp] = float(xp.sum(whole)) == 2.0
        except TypeError:  # immutable arrays
            _WRITABLE_VIEWS[xp] = False
    return _WRITABLE_VIEWS[xp]
