"""What augmentations accept as settings, and what they say about anything else."""

from __future__ import annotations

import math
import operator
from typing import Any

from xpnet.errors import ArgumentError


def whole(op: str, name: str, value: Any, low: int) -> int:
    """Return a whole number of at least `low`."""
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if number < low:
        raise ArgumentError(op, f"{name} must be a whole number, at least {low}; got {value!r}")
    return number


def number(op: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number from `low` to `high`."""
    try:
        found = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and low <= found <= high):
        bounds = {
            (True, True): f" from {low:g} to {high:g}",
            (True, False): f", at least {low:g}",
            (False, True): f", at most {high:g}",
            (False, False): "",
        }[math.isfinite(low), math.isfinite(high)]
        raise ArgumentError(op, f"{name} must be a finite number{bounds}; got {value!r}")
    return found


def positive(op: str, name: str, value: Any) -> float:
    """Return a finite number above zero."""
    found = number(op, name, value, 0.0)
    if not found:
        raise ArgumentError(op, f"{name} must be above 0, got {value!r}")
    return found


def interval(op: str, name: str, value: Any) -> tuple[float, float]:
    """Return (low, high) with low <= high."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ArgumentError(op, f"{name} must be two numbers (low, high), got {value!r}") from None
    low, high = number(op, f"{name}[0]", low), number(op, f"{name}[1]", high)
    if low > high:
        raise ArgumentError(op, f"{name} must be (low, high) with low <= high, got {value!r}")
    return low, high


def size(op: str, name: str, value: Any) -> tuple[int, int]:
    """Return (height, width), from one number for both or from two."""
    if not isinstance(value, (tuple, list)):
        value = (value, value)
    if len(value) != 2:
        raise ArgumentError(op, f"{name} must be one number or (height, width), got {value!r}")
    return whole(op, name, value[0], 1), whole(op, name, value[1], 1)
