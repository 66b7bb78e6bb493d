"""What there is of CUDA on this machine, for a report: driver, runtime, cuDNN, GPUs. Nothing here raises."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from xpnet import config
from xpnet.backend.selection import Backend

__all__ = [
    "convolutions_by",
    "cuda_report",
    "cudnn_front_end",
    "cudnn_version",
    "device_of_rank",
    "driver_version",
    "gpu_identity",
]


def driver_version() -> int | None:
    """Return the CUDA version of the NVIDIA driver as it counts (13000 for 13.0); None without a driver.

    Asks the driver itself, so neither CuPy nor a GPU is needed.
    """
    version = ctypes.c_int()
    for name in ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so"):
        try:
            if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value > 0:
                return version.value
        except (OSError, AttributeError):
            continue
    return None


def cudnn_version() -> str | None:
    """Return the version of cuDNN 9, of NVIDIA's Python package or of the system; None if there is none."""
    names = ["libcudnn.so.9", "cudnn64_9.dll"]
    try:
        spec = importlib.util.find_spec("nvidia.cudnn")
    except (ImportError, ValueError):
        spec = None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        names += [
            str(path) for path in Path(folder).glob("*/*cudnn*9*") if path.name in ("libcudnn.so.9", "cudnn64_9.dll")
        ]
    for name in names:
        try:
            ask = ctypes.CDLL(name).cudnnGetVersion
        except (OSError, AttributeError):
            continue
        ask.restype = ctypes.c_size_t
        number = ask()
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return None


def cudnn_front_end() -> str | None:
    """Return the version of cuDNN's Python front end, by which CuPy's convolutions use it; None if there is none."""
    try:
        return metadata.version("nvidia-cudnn-frontend")
    except metadata.PackageNotFoundError:
        return None


def convolutions_by(library: str | None, front_end: str | None) -> str:
    """Return how convolutions are done on CuPy, given the versions of cuDNN and of its front end.

    Examples
    --------
    >>> from xpnet.backend.cuda import convolutions_by
    >>> convolutions_by("9.28.1", "1.28.0")
    'cuDNN 9.28.1'
    """
    if config.get("kernels") != "auto":
        return "matrix products (XPNET_KERNELS=agnostic)"
    if config.get("cudnn") == "off":
        return "matrix products (XPNET_CUDNN=off)"
    if front_end is None:
        return "matrix products (cuDNN's front end is not installed; pip install 'xpnet[cudnn13]', or [cudnn12])"
    if library is None:
        return "matrix products (the library of cuDNN 9 was not found; pip install 'xpnet[cudnn13]', or [cudnn12])"
    return f"cuDNN {library}"


def cuda_report() -> dict[str, Any]:
    """Return driver, runtime, cuDNN and GPUs; what cannot be found is None.

    Returns
    -------
    dict
        ``driver``, ``runtime`` (CuPy's), ``cudnn`` and ``cudnn_front_end`` as versions; ``convolutions``, what does
        them on CuPy; ``gpus``, a list of name, memory in bytes (whole and free) and compute capability, if CuPy can be
        used; and ``error``.
    """
    report: dict[str, Any] = {"driver": _dotted(driver_version()), "runtime": None, "cudnn": cudnn_version()}
    report["cudnn_front_end"] = cudnn_front_end()
    report["convolutions"] = convolutions_by(report["cudnn"], report["cudnn_front_end"])
    report |= {"gpus": [], "error": None}
    try:
        import cupy

        if cupy.is_available():
            runtime = cupy.cuda.runtime
            report["runtime"] = _dotted(runtime.runtimeGetVersion())
            report["gpus"] = [_gpu(cupy, index) for index in range(runtime.getDeviceCount())]
    except ImportError:
        pass
    except Exception as error:  # a driver that fails in a way of its own
        report["error"] = f"{type(error).__name__}: {error}"
    return report


def _gpu(cupy: Any, index: int) -> dict[str, Any]:
    found = cupy.cuda.runtime.getDeviceProperties(index)
    with cupy.cuda.Device(index):
        free, total = cupy.cuda.runtime.memGetInfo()
    return {
        "name": found["name"].decode(errors="replace"),
        "memory": int(total),
        "free": int(free),
        "compute_capability": f"{found['major']}.{found['minor']}",
    }


def _dotted(version: int | None) -> str | None:
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def device_of_rank(name: str | None, local_rank: int) -> str | None:
    """Return the name of a backend with the GPU of a process among those on its machine.

    Examples
    --------
    >>> from xpnet.backend.cuda import device_of_rank
    >>> device_of_rank("numpy", 1), device_of_rank("cupy:3", 1)
    ('numpy', 'cupy:3')
    """
    wanted = name or os.environ.get("XPNET_BACKEND") or "auto"
    if wanted in ("auto", "cupy"):
        gpus = cuda_report()["gpus"]
        return f"cupy:{local_rank % len(gpus)}" if gpus else name
    if wanted == "torch:cuda":
        import torch

        count = torch.cuda.device_count()
        return f"torch:cuda:{local_rank % count}" if count else name
    return name


def gpu_identity(chosen: Backend) -> str | None:
    """Return what tells the GPU of CuPy's backend from the others of its machine; None for other backends."""
    return chosen.device.pci_bus_id if chosen.name.partition(":")[0] == "cupy" else None
