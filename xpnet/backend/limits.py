"""The setting ``gpu_memory_limit``, passed on to CuPy and torch for every GPU that is in use."""

from __future__ import annotations

import sys
from typing import Any

from xpnet import config

__all__ = ["limit_in_bytes", "limit_memory"]

_in_use: list[tuple[str, Any]] = []  # (library, device) of those loaded so far


def limit_in_bytes(whole: int) -> int | None:
    """Return the limit for a GPU of so many bytes; None without one."""
    limit = config.get("gpu_memory_limit")
    return int(limit * whole) if isinstance(limit, float) else limit


def limit_memory(library: str, device: Any) -> None:
    """Set the limit on a GPU that is loaded; without a setting, what the library has been told stands."""
    if (library, device) not in _in_use:
        _in_use.append((library, device))
    if config.get("gpu_memory_limit") is not None:
        _apply(library, device)


def _apply(library: str, device: Any) -> None:
    module = sys.modules[library]
    if library == "cupy":
        with device:
            _, whole = module.cuda.runtime.memGetInfo()
            module.get_default_memory_pool().set_limit(size=limit_in_bytes(whole) or 0)  # 0: none
    else:
        _, whole = module.cuda.mem_get_info(device)
        limit = limit_in_bytes(whole)
        module.cuda.set_per_process_memory_fraction(1.0 if limit is None else min(1.0, limit / whole), device)


def _change(limit: int | float | None) -> None:
    for library, device in _in_use:
        _apply(library, device)


config.listen("gpu_memory_limit", _change)
