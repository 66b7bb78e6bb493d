"""How much memory a device has: for this process at most, and taken by its arrays now."""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat

from xpnet.backend.selection import Backend, get

__all__ = ["DeviceMemory", "device_memory"]


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


def device_memory(chosen: Backend | None = None) -> DeviceMemory | None:
    """Return the memory of a backend's GPU, of the selected one by default; None where it is no GPU.

    Asks the driver and the library's pool; it waits for no kernel.
    """
    chosen = get() if chosen is None else chosen
    if array_api_compat.is_cupy_namespace(chosen.xp):
        return _of_cupy(chosen.device)
    if array_api_compat.is_torch_namespace(chosen.xp) and chosen.device.type == "cuda":
        return _of_torch(chosen.device)
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

    free, _ = torch.cuda.mem_get_info(device)
    return DeviceMemory(torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device) + free)
