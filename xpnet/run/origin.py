"""Where results come from: noted beside them, so that they can be had again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import xpnet
from xpnet import backend
from xpnet.backend import Backend
from xpnet.kernels.table import uses_compiled

__all__ = ["origin"]


def origin(command: str, chosen: Backend) -> dict[str, Any]:
    """Return where results come from: command, commit, backend, float type, versions and machine."""
    versions = {
        "xpnet": xpnet.__version__,
        "python": platform.python_version(),
        chosen.xp.__name__.rpartition(".")[2]: getattr(chosen.xp, "__version__", ""),
    }
    if chosen.name == "numpy" and uses_compiled():
        versions["numba"] = importlib.metadata.version("numba")
    return {
        "command": command,
        "commit": _commit(),
        "backend": chosen.name,
        "dtype": backend.dtype_name(chosen.dtype),
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str | None:
    """Return the commit of the checkout that this file belongs to, marked if files differ; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # else a repository around an installed xpnet would be named
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
