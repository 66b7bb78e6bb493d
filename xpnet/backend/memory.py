"""How much memory there is, on a GPU and on the host, and what its lack looks like."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, NamedTuple

import array_api_compat

from xpnet.backend.limits import limit_in_bytes
from xpnet.files import read_system_file

__all__ = ["DeviceMemory", "device_memory", "host_memory", "is_out_of_memory", "machine_memory"]


class DeviceMemory(NamedTuple):
    """Bytes on a GPU.

    Attributes
    ----------
    used : int
        By the arrays of this process.
    total : int
        That this process can have: what it holds and what is free, within its limit.
    """

    used: int
    total: int

    @property
    def free(self) -> int:
        """Bytes that new arrays can take."""
        return max(0, self.total - self.used)


def device_memory(xp: Any, device: Any) -> DeviceMemory | None:
    """Return the memory of a GPU, by the namespace and device of its arrays; None for what is no GPU.

    Asks the driver and the library's pool; it waits for no kernel.
    """
    if array_api_compat.is_cupy_namespace(xp):
        return _of_cupy(device)
    if array_api_compat.is_torch_namespace(xp) and device.type == "cuda":
        return _of_torch(device)
    return None


def _of_cupy(device: Any) -> DeviceMemory:
    import cupy

    with device:
        pool = cupy.get_default_memory_pool()
        free, _ = cupy.cuda.runtime.memGetInfo()
        total, limit = pool.total_bytes() + free, pool.get_limit()
        return DeviceMemory(pool.used_bytes(), min(total, limit) if limit else total)


def _of_torch(device: Any) -> DeviceMemory:
    import torch

    free, whole = torch.cuda.mem_get_info(device)
    total, limit = torch.cuda.memory_reserved(device) + free, limit_in_bytes(whole)
    return DeviceMemory(torch.cuda.memory_allocated(device), total if limit is None else min(total, limit))


def machine_memory() -> dict[str, int | None]:
    """Return bytes of memory: of the machine, available now, and the limit of a container; None for the unknown."""
    total = None
    with contextlib.suppress(AttributeError, ValueError, OSError):  # no sysconf on Windows
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = re.search(r"^MemAvailable:\s+(\d+) kB$", read_system_file("/proc/meminfo"), re.M)
    limit = (
        read_system_file("/sys/fs/cgroup/memory.max").strip()
        or read_system_file("/sys/fs/cgroup/memory/memory.limit_in_bytes").strip()
    )
    bounded = int(limit) if limit.isdecimal() and (total is None or int(limit) < total) else None
    return {"total": total, "available": int(free[1]) * 1024 if free else None, "container_limit": bounded}


def host_memory() -> int | None:
    """Return the bytes that this process can have on the host: its own and those available; None if nothing tells."""
    found = machine_memory()
    own = re.match(r"\d+ (\d+)", read_system_file("/proc/self/statm"))
    bounds = [found["total"], found["container_limit"]]
    if own and found["available"] is not None:
        bounds.append(int(own[1]) * os.sysconf("SC_PAGE_SIZE") + found["available"])
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        bounds.append(None if soft == resource.RLIM_INFINITY else soft)
    return min((n for n in bounds if n is not None), default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a library has said that memory ran out: by MemoryError, or as torch and CUDA do.

    Examples
    --------
    >>> from xpnet.backend.memory import is_out_of_memory
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    (True, True)
    >>> is_out_of_memory(RuntimeError("something else"))
    False
    """
    signs = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED", "_ALLOCATION_FAILED")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in signs))
    )
