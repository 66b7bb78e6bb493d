"""What `xpnet doctor` finds out about processor and BLAS; what a system does not tell is None."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import re
import subprocess
import sys
from typing import Any

import numpy as np

from xpnet.cores import container_limit, usable_cores
from xpnet.files import read_system_file


def processor() -> dict[str, Any]:
    """Return name, cores of the machine, cores that this process may use, and the share that a container allows."""
    name = None
    if sys.platform == "linux":
        found = re.search(r"^(?:model name|Model|Hardware)\s*: (.+)$", read_system_file("/proc/cpuinfo"), re.M)
        name = found[1].strip() if found else None
    elif sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return {"name": name or platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "usable": usable_cores(), "container_limit": container_limit()}  # fmt: skip


def blas() -> list[dict[str, Any]]:
    """Return the libraries for matrix products: with their threads by threadpoolctl, else as NumPy was built."""
    libraries: list[dict[str, Any]] = []
    with contextlib.suppress(ImportError):
        threadpoolctl = importlib.import_module("threadpoolctl")
        np.ones((2, 2)) @ np.ones((2, 2))  # loaded by now, if it was not
        keys = ("user_api", "internal_api", "version", "num_threads", "architecture", "threading_layer")
        libraries = [{key: found[key] for key in keys if found.get(key)} for found in threadpoolctl.threadpool_info()]
    if not any(library["user_api"] == "blas" for library in libraries):  # Apple's, for one, is not found that way
        with contextlib.suppress(Exception):  # its contents are not promised
            built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
            libraries.append({"user_api": "blas", "internal_api": built["name"], "version": built["version"]})
    return libraries
