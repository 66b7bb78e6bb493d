"""Freed memory kept for the next arrays: a training step frees and asks for the same sizes again and again.

glibc gives freed memory back to the system beyond a threshold, and the next array of that size pays for each of its
pages anew (about 0.1 ms a megabyte, a tenth to a quarter of a training step). Its own thresholds follow the largest
array freed so far, up to 32 MB for an array; here both are raised to ``XPNET_KEEP_MEMORY``. A larger array goes back at
once, as one of more than 32 MB does where glibc takes no higher threshold.
"""

from __future__ import annotations

import ctypes
import os
import sys

from xpnet import config

__all__ = ["keep_memory", "prepare"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_BY_RULE = 32 << 20  # bytes of an array: DEFAULT_MMAP_THRESHOLD_MAX of glibc with 64 bits
LARGEST_INT = 2**31 - 1  # mallopt takes a C int
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def prepare() -> None:
    """Apply the setting ``keep_memory`` and follow it from now on; the kernel table calls it once."""
    config.listen("keep_memory", lambda size: (keep_memory(size), None)[1])
    if config.get("keep_memory"):
        keep_memory(config.get("keep_memory"))


def keep_memory(size: int) -> bool:
    """Have the allocator keep so many bytes of freed memory, up to 2 GB; 0 is what glibc comes to with large arrays.

    Returns
    -------
    bool
        False, and nothing is done, where the allocator is not glibc's or has settings from the environment.
    """
    own = any(name in os.environ for name in OWN_SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or sys.maxsize < 2**32 or own:
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    kept = min(size or 2 * LARGEST_BY_RULE, LARGEST_INT)
    if not (size > LARGEST_BY_RULE and library.mallopt(MMAP_THRESHOLD, kept)):
        library.mallopt(MMAP_THRESHOLD, LARGEST_BY_RULE)
    return bool(library.mallopt(TRIM_THRESHOLD, kept))
