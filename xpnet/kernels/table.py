"""Registration and look-up of kernels by library and name.

A library's kernels stand in the module ``xpnet.kernels.<library>``. It is imported when the first arrays of
that library come by, so ``import xpnet`` loads no torch and no CuPy. Arrays of NumPy get those of ``compiled``
first, if ``XPNET_COMPILED`` allows it. NumPy, CuPy and torch go by these names, with or without array_api_compat around
them; any other library goes by the full name of its namespace, such as ``jax.numpy``, which is not NumPy.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from array_api_compat import is_cupy_namespace, is_numpy_namespace, is_torch_namespace

from xpnet import config

__all__ = ["find", "load", "register", "registered", "uses_compiled"]

_OURS = {"numpy": is_numpy_namespace, "cupy": is_cupy_namespace, "torch": is_torch_namespace}
_TABLE: dict[tuple[str, str], Callable[..., Any]] = {}  # (library or "agnostic", name) -> kernel
_LOADED: set[str] = set()  # libraries whose module has been imported, or that have none


def register(library: str, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function as kernel `name` of a library (``"agnostic"``, ``"numpy"``, ...)."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        if library != "agnostic" and ("agnostic", name) not in _TABLE:
            raise ValueError(f"kernel {name!r} of {library} has no agnostic version to be checked against")
        _TABLE[library, name] = function
        return function

    return enter


def registered() -> list[tuple[str, str]]:
    """Return (library, name) of every kernel registered so far; `load` first for those of a library."""
    return sorted(_TABLE)


def load(library: str) -> None:
    """Import the kernels of a library and call its `prepare`, if any, once; nothing happens if it has none.

    Raises
    ------
    ImportError
        If the library itself is missing.
    """
    if library in _LOADED:
        return
    module = f"xpnet.kernels.{library}"
    if "." not in library and importlib.util.find_spec(module) is not None:  # which would import what is before a dot
        prepare = getattr(importlib.import_module(module), "prepare", None)
        if prepare is not None:
            prepare()
    _LOADED.add(library)


@functools.cache
def _library(xp: Any) -> str:
    return next((library for library, is_it in _OURS.items() if is_it(xp)), xp.__name__)


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def uses_compiled() -> bool:
    """Tell whether arrays of NumPy get the kernels compiled by Numba, where there are such."""
    return config.get("compiled") == "auto" and config.get("kernels") == "auto" and _has_numba()


def find(name: str, xp: Any) -> Callable[..., Any]:
    """Return the kernel to use for arrays of namespace `xp`."""
    for library in _places.get(xp) or _look_in(xp):
        kernel = _TABLE.get((library, name))
        if kernel is not None:
            return kernel
    raise KeyError(f"there is no kernel {name!r}")


# namespace -> libraries whose kernels its arrays get, the first choice first: a step asks dozens of times. Exchanged as
# a whole when a setting changes, so that a thread which is about to enter what held before enters it in vain.
_places: dict[Any, tuple[str, ...]] = {}


def _look_in(xp: Any) -> tuple[str, ...]:
    places = _places
    found = ["agnostic"]
    if config.get("kernels") == "auto":
        library = _library(xp)
        load(library)
        found.insert(0, library)
        if library == "numpy" and uses_compiled():
            load("compiled")
            found.insert(0, "compiled")
    return places.setdefault(xp, tuple(found))


def _forget(_: Any) -> None:
    global _places
    _places = {}


for _setting in ("compiled", "kernels"):
    config.listen(_setting, _forget)
