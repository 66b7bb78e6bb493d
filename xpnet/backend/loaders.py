"""How each array library is imported, and what is said when it cannot be used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from xpnet import config
from xpnet.backend.limits import limit_memory
from xpnet.errors import BackendUnavailableError

__all__ = ["BUILTIN", "LOADERS", "Loader"]

Loader = Callable[[str | None], tuple[Any, Any]]


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
    _set_tf32_of_cupy(cupy, config.get("allow_tf32"))
    chosen = cupy.cuda.Device(index)
    limit_memory("cupy", chosen)
    import array_api_compat.cupy as xp

    return xp, chosen


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
    if chosen.type == "cuda":
        set_tf32_of_torch(torch, config.get("allow_tf32"))
        limit_memory("torch", chosen)
    if config.get("deterministic"):
        _set_deterministic(True)
    return xp, chosen


def _set_deterministic(on: bool) -> None:
    """Tell torch, where it is loaded, to keep to operations that give the same bits in every run.

    Nothing in xpnet scatters or adds in an order left to chance, so NumPy needs no telling. CuPy has no such
    switch, and whether its reductions repeat to the bit has not been verified here.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses CUDA products
        torch.use_deterministic_algorithms(on)


config.listen("deterministic", _set_deterministic)


def set_tf32_of_torch(torch: Any, on: bool) -> None:
    """Tell torch, whose convolutions on a GPU use TF32 unless they are told not to."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def _set_tf32_of_cupy(cupy: Any, on: bool) -> None:
    """Tell CuPy's products of two matrices; it has no public name for this but CUPY_TF32, which is read only once."""
    default, tf32 = 1, 7  # COMPUTE_TYPE_DEFAULT and COMPUTE_TYPE_TF32 of cupy/_core/_routines_linalg
    cupy._core.set_compute_type("float32", tf32 if on else default)


def _set_tf32(on: bool) -> None:
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None:
        set_tf32_of_torch(torch, on)
    if cupy is not None:
        _set_tf32_of_cupy(cupy, on)


config.listen("allow_tf32", _set_tf32)


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


LOADERS: dict[str, Loader] = {
    "numpy": _load_numpy,
    "cupy": _load_cupy,
    "torch": _load_torch,
    "array_api_strict": _load_array_api_strict,
}

BUILTIN = frozenset(LOADERS)
