"""Moving arrays between libraries and devices, which happens on request only."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from xpnet.backend.namespaces import DTYPES, Array, array_namespace, device_of, named_dtype
from xpnet.backend.selection import get
from xpnet.errors import DTypeError

__all__ = ["asarray", "asarray_like", "synchronize", "synchronize_array", "to_numpy"]


def asarray(x: Any, *, dtype: Any = None, copy: bool | None = None) -> Array:
    """Make an array of the selected backend, copying from another library or device if need be.

    Parameters
    ----------
    x : array of any library, number, or nested sequence of numbers
    dtype : dtype of the selected backend, or its name, optional
        By default that of the array `x`; for Python numbers, the backend's float type if any of
        them is a float, else its default integer type.
    copy : bool, optional
        True forces a copy. By default memory is shared where the libraries can share it.

    Returns
    -------
    array

    Raises
    ------
    DTypeError
        If `x` does not hold numbers, or the library has no type of that name.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy"):
    ...     backend.asarray([0.5, 1.5])
    array([0.5, 1.5], dtype=float32)
    """
    chosen = get()
    xp = chosen.xp
    if isinstance(dtype, str):
        named = named_dtype(xp, dtype)
        if named is None:
            raise DTypeError("asarray", f"backend {chosen.name!r} has no type {dtype!r}")
        dtype = named
    if array_api_compat.is_array_api_obj(x):
        if array_namespace(x) is xp and not isinstance(x, (np.ndarray, np.generic)):
            if chosen.device is not None and device_of(x) != chosen.device:
                x, copy = array_api_compat.to_device(x, chosen.device), None
            if dtype is not None and dtype != x.dtype:
                return xp.astype(x, dtype)  # a copy in any case; torch's asarray refuses it for 0-d tensors
            return xp.asarray(x, copy=copy)
        x = to_numpy(x)
    else:
        x = np.asarray(x)
        if dtype is None and x.dtype.kind == "f":
            dtype = chosen.dtype
    if x.dtype.kind not in "biufc" and x.dtype.name not in DTYPES:
        raise DTypeError("asarray", f"expected numbers, got {x.dtype} ({str(x)[:40]})")
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))  # big-endian files: only NumPy itself computes with those
    foreign = not array_api_compat.is_numpy_namespace(xp)
    if copy or (foreign and not (x.flags.writeable and x.flags.aligned and all(s >= 0 for s in x.strides))):
        # torch refuses such memory, an alias to it would refuse writing, and torch copies no 0-d array to another type
        x, copy = x.copy(order="K"), None
    return xp.asarray(x, dtype=dtype, device=chosen.device, copy=copy)


def asarray_like(x: Any, like: Array) -> Array:
    """Copy an array of any library to the library, device and type of another array."""
    xp = array_namespace(like)
    host = np.array(to_numpy(x))
    host = host.astype(host.dtype.newbyteorder("="), copy=False)
    return xp.asarray(host, dtype=like.dtype, device=device_of(like))


def to_numpy(x: Array) -> np.ndarray:
    """Copy an array of any library and device to a NumPy array, waiting for it to be computed.

    On the host the result may share memory with `x`. bfloat16, which NumPy does not have, comes
    as float32.

    Examples
    --------
    >>> from xpnet import backend
    >>> backend.to_numpy(backend.asarray([1, 2, 3]))
    array([1, 2, 3])
    """
    if isinstance(x, np.ndarray):
        return x
    if array_api_compat.is_cupy_array(x):
        host = x.get()
        return host.astype(np.float32) if host.dtype.name == "bfloat16" else host
    if array_api_compat.is_torch_array(x):
        x = x.detach().cpu()
        return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    if array_api_compat.is_array_api_obj(x) and not isinstance(x, np.generic):
        try:
            return np.from_dlpack(x)
        except BufferError:  # NumPy 2.0 exports no read-only memory, such as that of a broadcast array
            return np.from_dlpack(array_namespace(x).asarray(x, copy=True))
    return np.asarray(x)


def synchronize() -> None:
    """Wait until the selected backend's device has finished; at once on the CPU.

    Needed before reading a clock: kernels on a GPU run behind the Python program.
    """
    chosen = get()
    if array_api_compat.is_cupy_namespace(chosen.xp):
        with chosen.device:
            import cupy

            cupy.cuda.get_current_stream().synchronize()
    elif array_api_compat.is_torch_namespace(chosen.xp) and chosen.device.type == "cuda":
        import torch

        torch.cuda.synchronize(chosen.device)


def synchronize_array(x: Array) -> None:
    """Wait until what the current stream of a CuPy array's device is to do, the array's values with it, is done."""
    if array_api_compat.is_cupy_array(x):
        with x.device:
            import cupy

            cupy.cuda.get_current_stream().synchronize()
