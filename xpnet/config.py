"""Settings of the whole process, each with an environment variable of the same name.

========================  ===================================================================
``XPNET_CONV_WORKSPACE``  bytes of scratch memory for one block of a convolution, ``"4MB"``
``XPNET_KERNELS``         ``"auto"``: the fastest kernels registered for a backend, or
                          ``"agnostic"``: only those that keep to the array API standard
========================  ===================================================================
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["get", "parse_bytes", "set", "using"]

_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def parse_bytes(text: str | int) -> int:
    """Turn ``"4MB"`` (powers of 1024; B, KB, MB, GB) or a number into a count of bytes.

    Examples
    --------
    >>> from xpnet.config import parse_bytes
    >>> parse_bytes("4MB")
    4194304
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B?)\s*", str(text).upper())
    if match:
        number, unit = match.groups()
        count = int(float(number) * _UNITS[unit if unit.endswith("B") or not unit else unit + "B"])
        if count > 0:
            return count
    raise ValueError(f"expected a size such as '4MB' or 4194304, got {text!r}")


def _parse_kernels(text: str) -> str:
    if text not in ("auto", "agnostic"):
        raise ValueError(f"expected 'auto' or 'agnostic', got {text!r}")
    return text


_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "conv_workspace": ("4MB", parse_bytes),
    "kernels": ("auto", _parse_kernels),
}
_values: dict[str, Any] = {}


def get(name: str) -> Any:
    """Return a setting: what `set` gave it, else its environment variable, else its default.

    Examples
    --------
    >>> from xpnet import config
    >>> config.get("kernels")
    'auto'
    """
    if name in _values:
        return _values[name]
    if name not in _SETTINGS:
        raise ValueError(f"config.get: no setting {name!r}; there are {', '.join(_SETTINGS)}")
    default, parse = _SETTINGS[name]
    variable = f"XPNET_{name.upper()}"
    try:
        _values[name] = parse(os.environ.get(variable) or default)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None
    return _values[name]


def set(**settings: Any) -> None:
    """Change settings for the whole process.

    Parameters
    ----------
    **settings
        ``conv_workspace="16MB"``, ``kernels="agnostic"``.

    Raises
    ------
    ValueError
        If a name or value is unknown; then nothing is changed.
    """
    parsed = {}
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise ValueError(f"config.set: no setting {name!r}; there are {', '.join(_SETTINGS)}")
        try:
            parsed[name] = _SETTINGS[name][1](value)
        except ValueError as error:
            raise ValueError(f"config.set: {name}: {error}") from None
    _values.update(parsed)


@contextlib.contextmanager
def using(**settings: Any) -> Iterator[None]:
    """Change settings for the length of a ``with`` block (in the whole process).

    Examples
    --------
    >>> from xpnet import config
    >>> with config.using(conv_workspace="1MB"):
    ...     config.get("conv_workspace")
    1048576
    """
    before = dict(_values)
    set(**settings)
    try:
        yield
    finally:
        _values.clear()
        _values.update(before)
