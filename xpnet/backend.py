"""The backend selector: which array library makes new arrays, and which one an array belongs to.

The selection (``XPNET_BACKEND``, `use`, `using`) decides where arrays are *created*. Computation
follows its inputs through `array_namespace`, so several backends live in one process. This is the
only module of xpnet that imports CuPy or torch.

================  ==============================================================================
``XPNET_BACKEND``  ``auto`` (default) | ``numpy`` | ``cupy[:device]`` | ``torch[:device]`` |
                   ``array_api_strict[:device]`` | a registered name
``XPNET_DTYPE``    ``float32`` (default) | ``float64`` | ``float16`` | ``bfloat16``
================  ==============================================================================
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from xpnet import config
from xpnet.errors import ArrayMismatchError, BackendUnavailableError, DTypeError

__all__ = [
    "Array",
    "Backend",
    "BackendStatus",
    "array_namespace",
    "asarray",
    "asarray_like",
    "available",
    "device_of",
    "dtype_by_name",
    "dtype_name",
    "get",
    "has_writable_views",
    "is_half",
    "is_on_host",
    "register",
    "synchronize",
    "to_numpy",
    "use",
    "using",
    "wide_dtype",
]

logger = logging.getLogger("xpnet")

Array = Any  # the standard defines no common base class
Loader = Callable[[str | None], tuple[Any, Any]]

DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Backend:
    """A selected array library: where new arrays are made, and of which float type.

    Attributes
    ----------
    name : str
        As it would be written in ``XPNET_BACKEND``: ``"numpy"``, ``"cupy:1"``, ``"torch:cuda"``.
    xp : module
        The array API namespace.
    device : object or None
        What `xp` takes as ``device=``; None is the library's default device.
    dtype : dtype
        Float type of parameters and batches made on this backend.
    """

    name: str
    xp: Any
    device: Any
    dtype: Any


class BackendStatus(NamedTuple):
    """One line of `available`: a backend, whether it can be used here, and why not (or which)."""

    name: str
    usable: bool
    reason: str


# --- the libraries -------------------------------------------------------------------------------


def _load_numpy(device: str | None) -> tuple[ModuleType, None]:
    if device not in (None, "cpu"):
        raise BackendUnavailableError(f"numpy has no device {device!r}; write XPNET_BACKEND=numpy")
    import array_api_compat.numpy as xp

    return xp, None


def _load_cupy(device: str | None) -> tuple[ModuleType, Any]:
    install = "pip install 'xpnet[cuda13]' (or 'xpnet[cuda12]' for a CUDA 12 driver)"
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        raise BackendUnavailableError(f"CuPy is not installed; {install}") from error
    except ImportError as error:  # CuPy's own diagnosis of a broken installation
        raise BackendUnavailableError(f"CuPy is installed but broken: {error}; {install}") from error
    if not cupy.is_available():
        driver = cupy.cuda.runtime.driverGetVersion()
        why = (
            "no NVIDIA driver was found (driver version 0): install the driver of an NVIDIA GPU"
            if driver == 0
            else f"the driver (CUDA {driver // 1000}.{driver % 1000 // 10}) shows no GPU: "
            "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
        raise BackendUnavailableError(
            f"CuPy {cupy.__version__} is installed, but {why}; or run on the CPU with XPNET_BACKEND=numpy"
        )
    count = cupy.cuda.runtime.getDeviceCount()
    index = _device_index(device, "cupy", count)
    import array_api_compat.cupy as xp

    return xp, cupy.cuda.Device(index)


def _device_index(device: str | None, name: str, count: int) -> int:
    text = "0" if device is None else device
    if not text.isdecimal() or int(text) >= count:
        raise BackendUnavailableError(
            f"{name} has no device {device!r}; {count} found, so write {name}:0"
            + (f" to {name}:{count - 1}" if count > 1 else "")
        )
    return int(text)


def _load_torch(device: str | None) -> tuple[ModuleType, Any]:
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendUnavailableError("torch is not installed; pip install 'xpnet[torch]'") from error
    import array_api_compat.torch as xp

    try:
        # of an array, because "cuda" names a device that equals none: arrays are on "cuda:0"
        chosen = torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise BackendUnavailableError(
            f"torch {torch.__version__} cannot use device {device!r} ({reason}); "
            "write torch, torch:cuda, torch:cuda:1 or torch:mps for a device that is there"
        ) from error
    if config.get("deterministic"):
        _set_deterministic(True)
    return xp, chosen


def _set_deterministic(on: bool) -> None:
    """Tell torch, where it is loaded, to keep to operations that give the same bits in every run.

    The other libraries need no telling: nothing in xpnet scatters or adds in an order left to chance.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses CUDA products
        torch.use_deterministic_algorithms(on)


config.listen("deterministic", _set_deterministic)


def _load_array_api_strict(device: str | None) -> tuple[ModuleType, Any]:
    try:
        import array_api_strict as xp
    except ModuleNotFoundError as error:
        if error.name != "array_api_strict":
            raise
        raise BackendUnavailableError("array-api-strict is not installed; pip install array-api-strict") from error
    names = {"CPU_DEVICE": None, "cpu": None, "device1": "device1", "device2": "device2"}
    if device is not None and device not in names:
        raise BackendUnavailableError(
            f"array_api_strict has no device {device!r}; choose from CPU_DEVICE, device1, device2"
        )
    chosen = names[device] if device else None
    return xp, xp.Device(chosen) if chosen else xp.Device("CPU_DEVICE")


_LOADERS: dict[str, Loader] = {
    "numpy": _load_numpy,
    "cupy": _load_cupy,
    "torch": _load_torch,
    "array_api_strict": _load_array_api_strict,
}

# --- the selection -------------------------------------------------------------------------------

_selected: Backend | None = None  # process-wide, so that a notebook cell or a thread does not lose it
_override: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("xpnet_backend", default=None)


def get() -> Backend:
    """Return the backend in force: of the innermost `using`, else of `use`, else of ``XPNET_BACKEND``.

    Raises
    ------
    BackendUnavailableError
        If ``XPNET_BACKEND`` or ``XPNET_DTYPE`` names something that cannot be used here.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy"):
    ...     backend.get().name
    'numpy'
    """
    global _selected
    override = _override.get()
    if override is not None:
        return override
    if _selected is None:
        _selected = _resolve(None, None)
    return _selected


def use(name: str | None = None, *, dtype: str | None = None) -> Backend:
    """Select the backend for the whole process.

    Parameters
    ----------
    name : str, optional
        ``"auto"``, ``"numpy"``, ``"cupy[:device]"``, ``"torch[:device]"``,
        ``"array_api_strict[:device]"`` or a registered name; by default ``XPNET_BACKEND``, else auto.
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        Float type of new parameters and batches; by default ``XPNET_DTYPE``, else float32.

    Returns
    -------
    Backend

    Raises
    ------
    BackendUnavailableError
        If the backend cannot be used here. Nothing falls back silently, and the former
        selection stays in force.
    RuntimeError
        Inside a `using` block, where the call would have no effect.

    Examples
    --------
    >>> from xpnet import backend
    >>> backend.use("numpy").name
    'numpy'
    """
    global _selected
    if _override.get() is not None:
        raise RuntimeError(
            f"backend.use({name!r}) inside `with backend.using({_override.get().name!r})` "  # type: ignore[union-attr]
            "would have no effect before the block ends; nest another `using` instead"
        )
    _selected = _resolve(name, dtype)
    return _selected


@contextlib.contextmanager
def using(name: str | None = None, *, dtype: str | None = None) -> Iterator[Backend]:
    """Select a backend for the length of a ``with`` block, in this thread (or task) alone.

    Parameters and errors are those of `use`.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy", dtype="float64") as chosen:
    ...     print(backend.asarray([1.0, 2.0]).dtype)
    float64
    """
    chosen = _resolve(name, dtype)
    token = _override.set(chosen)
    try:
        yield chosen
    finally:
        _override.reset(token)


def available() -> list[BackendStatus]:
    """Try every known backend and say whether it can be used here and, if not, why.

    Returns
    -------
    list of BackendStatus
        ``(name, usable, reason)``; never raises, whatever state the libraries are in.

    Examples
    --------
    >>> from xpnet import backend
    >>> [status.usable for status in backend.available() if status.name == "numpy"]
    [True]
    """
    found = []
    for name, loader in _LOADERS.items():
        try:
            xp, device = loader(None)
            version = getattr(xp, "__version__", "")
            found.append(BackendStatus(name, True, f"{version} on {device or 'cpu'}".strip()))
        except Exception as error:
            found.append(BackendStatus(name, False, f"{error}" or type(error).__name__))
    return found


def register(name: str, loader: Loader) -> None:
    """Make another array library selectable by `name`.

    Parameters
    ----------
    name : str
        What ``XPNET_BACKEND`` and `use` will accept; a letter first, no colon.
    loader : callable
        ``loader(device) -> (xp, device)``: gets what followed the colon (or None), returns an
        array API namespace and what to pass it as ``device=``. It should import the library only
        when called, and raise `BackendUnavailableError` with the remedy when it cannot be used.

    Raises
    ------
    ValueError
        If the name is not usable or is one of xpnet's own.

    Examples
    --------
    >>> from xpnet import backend
    >>> import array_api_compat.numpy
    >>> backend.register("my_numpy", lambda device: (array_api_compat.numpy, None))
    >>> with backend.using("my_numpy") as chosen:
    ...     chosen.name
    'my_numpy'
    """
    if not name.isidentifier() or name == "auto":
        raise ValueError(f"backend.register: {name!r} is no usable name; take a Python identifier other than 'auto'")
    if name in _BUILTIN:
        raise ValueError(f"backend.register: {name!r} is built in; choose another name")
    _LOADERS[name] = loader


_BUILTIN = frozenset(_LOADERS)


def _resolve(spec: str | None, dtype: str | None) -> Backend:
    spec = spec or os.environ.get("XPNET_BACKEND") or "auto"
    dtype = dtype or os.environ.get("XPNET_DTYPE") or "float32"
    if spec == "auto":
        return _resolve_auto(dtype)
    name, _, device_name = spec.partition(":")
    if name not in _LOADERS:
        raise BackendUnavailableError(
            f"unknown backend {spec!r}; choose from auto, {', '.join(_LOADERS)} "
            "(with an optional device, as in cupy:1), by XPNET_BACKEND or backend.use()"
        )
    if spec.endswith(":"):
        raise BackendUnavailableError(
            f"backend {spec!r} names no device after the colon; write {name!r} for the default"
        )
    try:
        xp, device = _LOADERS[name](device_name or None)
        _remember_namespace(xp)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(f"backend {spec!r} cannot be used: {error}") from error
    except Exception as error:  # a third party's loader, or a library broken in a way of its own
        raise BackendUnavailableError(
            f"backend {spec!r} cannot be used: {type(error).__name__}: {error}; "
            "repair or reinstall that library, or choose another backend"
        ) from error
    return Backend(spec, xp, device, dtype_by_name(xp, dtype))


def _resolve_auto(dtype: str) -> Backend:
    try:
        chosen, why = _resolve("cupy", dtype), "a usable CUDA GPU was found"
    except BackendUnavailableError as error:
        chosen, why = _resolve("numpy", dtype), str(error)
    logger.info("backend auto: %s (%s)", chosen.name, why)
    return chosen


# --- what an array is, and moving it on request --------------------------------------------------

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


def _remember_namespace(xp: Any) -> None:
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
    return "cpu" if isinstance(x, np.ndarray) else array_api_compat.device(x)


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
        raise BackendUnavailableError(f"unknown float type {name!r}; XPNET_DTYPE is one of {', '.join(DTYPES)}")
    dtype = getattr(xp, name, None)
    if dtype is None:
        library = xp.__name__.rpartition(".")[2]
        raise BackendUnavailableError(f"{library} has no {name}; use XPNET_DTYPE=float32, or a backend that has it")
    return dtype


def is_half(xp: Any, dtype: Any) -> bool:
    """Tell whether a dtype is float16 or bfloat16."""
    # a missing type must not be compared as None: NumPy's float64 equals None
    return any(dtype == getattr(xp, name) for name in ("float16", "bfloat16") if hasattr(xp, name))


def wide_dtype(xp: Any, dtype: Any) -> Any:
    """Return the type to sum in: float32 for the half types, `dtype` itself otherwise."""
    return xp.float32 if is_half(xp, dtype) else dtype


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
        if not hasattr(xp, dtype):
            raise DTypeError("asarray", f"backend {chosen.name!r} has no type {dtype!r}")
        dtype = getattr(xp, dtype)
    if array_api_compat.is_array_api_obj(x):
        if (_NAMESPACES.get(type(x)) or _find_namespace(x)) is xp and not isinstance(x, (np.ndarray, np.generic)):
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
        return np.from_dlpack(x)
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
