"""Settings of the whole process, each with an environment variable of the same name.

============================  =================================================================
``XPNET_ALLOW_TF32``          ``"1"``: products and convolutions of float32 on a GPU may round their
                              inputs to 10 bits (TF32), which its tensor cores are faster at; else
                              ``"0"``. Goes before the switches of CuPy and torch
``XPNET_COMPILED``            ``"auto"``: on NumPy, kernels compiled by Numba where it is installed
                              and they were measured to be faster, or ``"off"``: never
``XPNET_CONV_WORKSPACE``      bytes of scratch memory that a convolution may take, of all its threads together, or
                              ``"auto"``: ``"2MB"`` for each thread, ``"4MB"`` at least
``XPNET_CONV_WORKSPACE_GPU``  the same for CuPy, where a convolution is to be few launches,
                              ``"256MB"``
``XPNET_CUDNN``               ``"auto"``: on CuPy, convolutions by cuDNN where its Python front end is
                              installed, or ``"off"``: always as matrix products
``XPNET_DETERMINISTIC``       ``"1"``: the same bits in every run also where a library has faster
                              operations that do not promise it (torch and cuDNN on a GPU); else ``"0"``
``XPNET_GPU_MEMORY_LIMIT``    the most that the arrays of this process may take of a GPU, ``"8GB"`` or
                              ``"80%"``; ``"none"`` leaves it to CuPy and torch
``XPNET_KEEP_MEMORY``         bytes of freed memory that a process which computes on the host keeps
                              for its next arrays, ``"2GB"``, which is also the most; ``"0"`` leaves the
                              allocator alone. Only with glibc, and only without settings of its own
                              (``MALLOC_...``)
``XPNET_KERNELS``             ``"auto"``: the fastest kernels registered for a backend, or
                              ``"agnostic"``: only those that keep to the array API standard
``XPNET_NAN_GUARD``           ``"1"``: stop at the first layer, forward or backward, whose result is
                              not finite, and name it; slow on a GPU, where looking waits; else
                              ``"0"``
============================  =================================================================
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from xpnet.cores import threads_allowed
from xpnet.text import near, no_such

__all__ = ["get", "listen", "parse_bytes", "set", "tolerating", "unknown_variables", "using", "warn_of_unknown"]

logger = logging.getLogger("xpnet")

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


def _parse_workspace(text: str | int) -> int:
    if str(text).strip().lower() == "auto":
        return max(4 << 20, threads_allowed() << 21)
    return parse_bytes(text)


def _parse_kept(text: str | int) -> int:
    return 0 if str(text).strip() == "0" else parse_bytes(text)


def _parse_limit(text: str | int | float | None) -> int | float | None:
    """Parse a size in bytes, or a share such as "80%" as a fraction."""
    share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", str(text))
    if share is None:
        return None if text is None or str(text).strip().lower() == "none" else parse_bytes(text)  # type: ignore[arg-type]
    if not 0.0 < float(share[1]) <= 100.0:
        raise ValueError(f"expected a share above 0% and up to 100%, or a size such as '4GB', got {text!r}")
    return float(share[1]) / 100.0


def _one_of(*words: str) -> Callable[[Any], str]:
    def parse(text: Any) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(map(repr, words))}, got {text!r}")
        return text

    return parse


def _parse_switch(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("0", "1", "true", "false"):
        raise ValueError(f"expected 1 or 0, got {value!r}")
    return text in ("1", "true")


_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "allow_tf32": ("0", _parse_switch),
    "compiled": ("auto", _one_of("auto", "off")),
    "conv_workspace": ("auto", _parse_workspace),
    "conv_workspace_gpu": ("256MB", parse_bytes),
    "cudnn": ("auto", _one_of("auto", "off")),
    "deterministic": ("0", _parse_switch),
    "gpu_memory_limit": ("none", _parse_limit),
    "keep_memory": ("2GB", _parse_kept),
    "kernels": ("auto", _one_of("auto", "agnostic")),
    "nan_guard": ("0", _parse_switch),
}
# read by those whom they concern; what begins with XPNET_TEST_ is for tests
_OTHERS = ("XPNET_BACKEND", "XPNET_CACHE", "XPNET_DATA", "XPNET_DTYPE", "XPNET_MPI_CUDA_AWARE", "XPNET_OFFLINE")
_UNSET: Any = object()
_values: dict[str, Any] = {}  # exchanged as a whole by writers, so that a reader without the lock misses nothing
_blocks: list[dict[str, Any]] = []  # what each `using` that has not ended will restore, in the order of their beginning
_listeners: dict[str, list[Callable[[Any], None]]] = {}
_warned = False
_lock = threading.RLock()  # of writers; a listener may write, too


def get(name: str) -> Any:
    """Return a setting: what `set` gave it, else its environment variable, else its default.

    Examples
    --------
    >>> from xpnet import config
    >>> config.get("kernels")
    'auto'
    """
    try:
        return _values[name]
    except KeyError:
        return _initial(name)


def _initial(name: str) -> Any:
    """Keep the value that a setting has from its environment variable, or by default, unless it has been set since."""
    if name not in _SETTINGS:
        raise ValueError(f"config.get: {no_such('setting', name, _SETTINGS)}")
    default, parse = _SETTINGS[name]
    variable = f"XPNET_{name.upper()}"
    try:
        value = parse(os.environ.get(variable) or default)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None
    with _lock:
        return _values.setdefault(name, value)


def set(**settings: Any) -> None:
    """Change settings for the whole process.

    Parameters
    ----------
    **settings
        ``allow_tf32=True``, ``compiled="off"``, ``conv_workspace="16MB"``, ``deterministic=True``,
        ``gpu_memory_limit="80%"``, ``keep_memory="1GB"``, ``kernels="agnostic"``, ``nan_guard=True``.

    Raises
    ------
    ValueError
        If a name or value is unknown; then nothing is changed.
    """
    parsed = {}
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise ValueError(f"config.set: {no_such('setting', name, _SETTINGS)}")
        try:
            parsed[name] = _SETTINGS[name][1](value)
        except ValueError as error:
            raise ValueError(f"config.set: {name}: {error}") from None
    _change(parsed)


def listen(name: str, listener: Callable[[Any], None]) -> None:
    """Call `listener` with the new value whenever the setting `name` is changed by `set` or `using`."""
    with _lock:
        _listeners.setdefault(name, []).append(listener)


def _change(changes: dict[str, Any]) -> None:
    global _values
    with _lock:
        before = {name: get(name) for name in _listeners}
        _values = {name: value for name, value in (_values | changes).items() if value is not _UNSET}
        for name, listeners in _listeners.items():
            if get(name) != before[name]:
                for listener in listeners:
                    listener(get(name))


@contextlib.contextmanager
def using(**settings: Any) -> Iterator[None]:
    """Change settings for the length of a ``with`` block (in the whole process).

    Of blocks that overlap, as in several threads, the one begun last holds, and after the last to end all is as before.

    Examples
    --------
    >>> from xpnet import config
    >>> with config.using(conv_workspace="1MB"):
    ...     config.get("conv_workspace")
    1048576
    """
    with _lock:
        before = {name: _values.get(name, _UNSET) for name in settings}
        set(**settings)
        _blocks.append(before)
    try:
        yield
    finally:
        with _lock:
            _change(_end(before))


@contextlib.contextmanager
def tolerating() -> Iterator[dict[str, str]]:
    """Read what environment variables cannot mean as the default, for the length of a ``with`` block.

    It is for a report on the environment, which a wrong value must not keep from being written. What is given is the
    text of the error for each of these variables, whether or not the setting has been read before, and for those of
    `unknown_variables`, of which nobody is warned then.

    Examples
    --------
    >>> from xpnet import config
    >>> with config.tolerating() as wrong:
    ...     list(wrong)
    []
    """
    global _warned
    wrong, stand_ins, _warned = unknown_variables(), {}, True
    for name, (default, parse) in _SETTINGS.items():
        variable = f"XPNET_{name.upper()}"
        try:
            parse(os.environ.get(variable) or default)
        except ValueError as error:
            wrong[variable] = f"{variable}: {error}"
            stand_ins[name] = parse(default)
    with _lock:
        added = {name: value for name, value in stand_ins.items() if name not in _values}
        _values.update(added)
    try:
        yield wrong
    finally:
        with _lock:  # but what has been set in the block stays
            for name, value in added.items():
                if _values.get(name) is value:
                    del _values[name]


def unknown_variables() -> dict[str, str]:
    """Return what is to be said of each environment variable that looks like one of xpnet's and is none.

    Examples
    --------
    >>> import os
    >>> from xpnet import config
    >>> os.environ["XPNET_KERNEL"] = "agnostic"
    >>> config.unknown_variables()["XPNET_KERNEL"]
    "XPNET_KERNEL means nothing to xpnet; did you mean 'XPNET_KERNELS'?"
    >>> del os.environ["XPNET_KERNEL"]
    """
    known = [*(f"XPNET_{name.upper()}" for name in _SETTINGS), *_OTHERS]
    return {
        name: f"{name} means nothing to xpnet{near(name, known, least=0.8)}"
        for name in sorted(os.environ)
        if name.startswith("XPNET_") and not name.startswith("XPNET_TEST_") and name not in known
    }


def warn_of_unknown() -> None:
    """Log a warning of each of `unknown_variables`, once: what is misspelt would change nothing, and nobody say so."""
    global _warned
    if not _warned:
        _warned = True
        for warning in unknown_variables().values():
            logger.warning("%s", warning)


def _end(block: dict[str, Any]) -> dict[str, Any]:
    """End a block; return what is to be restored now, and leave to later blocks what they changed again."""
    at = next(i for i, other in enumerate(_blocks) if other is block)
    later = _blocks[at + 1 :]
    del _blocks[at]
    now: dict[str, Any] = {}
    for name, value in block.items():
        again = next((other for other in later if name in other), now)
        again[name] = value
    return now
