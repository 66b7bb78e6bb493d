"""Registration and look-up of kernels by library and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet import config

__all__ = ["find", "register", "registered"]

_TABLE: dict[tuple[str, str], Callable[..., Any]] = {}  # (library or "agnostic", name) -> kernel


def register(library: str, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function as kernel `name` of a library (``"agnostic"``, ``"numpy"``, ...)."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        if library != "agnostic" and ("agnostic", name) not in _TABLE:
            raise ValueError(f"kernel {name!r} of {library} has no agnostic version to be checked against")
        _TABLE[library, name] = function
        return function

    return enter


def registered() -> list[tuple[str, str]]:
    """Return (library, name) of every registered kernel."""
    return sorted(_TABLE)


def find(name: str, xp: Any) -> Callable[..., Any]:
    """Return the kernel to use for arrays of namespace `xp`."""
    if config.get("kernels") == "auto":
        own = _TABLE.get((xp.__name__.rpartition(".")[2], name))
        if own is not None:
            return own
    return _TABLE["agnostic", name]
