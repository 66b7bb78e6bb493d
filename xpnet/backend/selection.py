"""Which library makes new arrays: by environment variable, for the process, or for a block."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import array_api_compat

from xpnet import config
from xpnet.backend.loaders import BUILTIN, LOADERS, Loader
from xpnet.backend.namespaces import dtype_by_name, remember_namespace
from xpnet.errors import BackendUnavailableError
from xpnet.text import no_such

__all__ = ["Backend", "BackendStatus", "available", "get", "register", "use", "using"]

logger = logging.getLogger("xpnet")


@dataclass(frozen=True)
class Backend:
    """A selected array library: where new arrays are made, and of which float type.

    Attributes
    ----------
    name : str
        As it would be written in ``XPNET_BACKEND``: ``"numpy"``, ``"cupy:1"``, ``"torch:cuda"``.
    xp : module
        The array API namespace.
    device : object or None
        What `xp` takes as ``device=``; None is the library's default device.
    dtype : dtype
        Float type of parameters and batches made on this backend.
    """

    name: str
    xp: Any
    device: Any
    dtype: Any


class BackendStatus(NamedTuple):
    """One line of `available`: a backend, whether it can be used here, and why not (or which)."""

    name: str
    usable: bool
    reason: str


_selected: Backend | None = None  # process-wide, so that a notebook cell or a thread does not lose it
_override: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("xpnet_backend", default=None)


class _Here(threading.local):
    """What this thread was told: CuPy keeps the GPU that it works on for each thread, which begins on the first."""

    settled: Backend | None = None  # the backend whose GPU this thread took last


_here = _Here()


def get() -> Backend:
    """Return the backend in force: of the innermost `using`, else of `use`, else of ``XPNET_BACKEND``.

    Of CuPy's, its GPU becomes the one that this thread works on, unless it has been so since the backend was selected.

    Raises
    ------
    BackendUnavailableError
        If ``XPNET_BACKEND`` or ``XPNET_DTYPE`` names something that cannot be used here.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy"):
    ...     backend.get().name
    'numpy'
    """
    global _selected
    override = _override.get()
    if override is not None:
        return _settled(override)
    if _selected is None:
        _selected = _resolve(None, None)
    return _settled(_selected)


def use(name: str | None = None, *, dtype: str | None = None) -> Backend:
    """Select the backend for the whole process.

    Parameters
    ----------
    name : str, optional
        ``"auto"``, ``"numpy"``, ``"cupy[:device]"``, ``"torch[:device]"``,
        ``"array_api_strict[:device]"`` or a registered name; by default ``XPNET_BACKEND``, else auto.
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        Float type of new parameters and batches; by default ``XPNET_DTYPE``, else float32.

    Returns
    -------
    Backend

    Raises
    ------
    BackendUnavailableError
        If the backend cannot be used here. Nothing falls back silently, and the former
        selection stays in force.
    RuntimeError
        Inside a `using` block, where the call would have no effect.

    Examples
    --------
    >>> from xpnet import backend
    >>> backend.use("numpy").name
    'numpy'
    """
    global _selected
    if _override.get() is not None:
        raise RuntimeError(
            f"backend.use({name!r}) inside `with backend.using({_override.get().name!r})` "  # type: ignore[union-attr]
            "would have no effect before the block ends; nest another `using` instead"
        )
    _selected = _settled(_resolve(name, dtype))
    return _selected


@contextlib.contextmanager
def using(name: str | None = None, *, dtype: str | None = None) -> Iterator[Backend]:
    """Select a backend for the length of a ``with`` block, in this thread (or task) alone.

    After the block, CuPy works on the GPU that it worked on before.

    Parameters and errors are those of `use`.

    Examples
    --------
    >>> from xpnet import backend
    >>> with backend.using("numpy", dtype="float64") as chosen:
    ...     print(backend.asarray([1.0, 2.0]).dtype)
    float64
    """
    with in_force(_resolve(name, dtype)) as chosen:
        yield chosen


@contextlib.contextmanager
def in_force(chosen: Backend) -> Iterator[Backend]:
    """Select a backend that was resolved before, as `using` does: in this thread, for a ``with`` block."""
    former, settled = _current_gpu(chosen), _here.settled
    token = _override.set(chosen)
    _here.settled = None
    try:
        yield _settled(chosen)
    finally:
        _override.reset(token)
        if former is not None:
            former.use()
        _here.settled = settled


def available() -> list[BackendStatus]:
    """Try every known backend and say whether it can be used here and, if not, why.

    Returns
    -------
    list of BackendStatus
        ``(name, usable, reason)``; never raises, whatever state the libraries are in.

    Examples
    --------
    >>> from xpnet import backend
    >>> [status.usable for status in backend.available() if status.name == "numpy"]
    [True]
    """
    found = []
    for name, loader in LOADERS.items():
        try:
            xp, device = loader(None)
            version = getattr(xp, "__version__", "")
            found.append(BackendStatus(name, True, f"{version} on {device or 'cpu'}".strip()))
        except Exception as error:
            found.append(BackendStatus(name, False, f"{error}" or type(error).__name__))
    return found


def register(name: str, loader: Loader) -> None:
    """Make another array library selectable by `name`.

    Parameters
    ----------
    name : str
        What ``XPNET_BACKEND`` and `use` will accept; a letter first, no colon.
    loader : callable
        ``loader(device) -> (xp, device)``: gets what followed the colon (or None), returns an
        array API namespace and what to pass it as ``device=``. It should import the library only
        when called, and raise `BackendUnavailableError` with the remedy when it cannot be used.

    Raises
    ------
    ValueError
        If the name is not usable or is one of xpnet's own.

    Examples
    --------
    >>> from xpnet import backend
    >>> import array_api_compat.numpy
    >>> backend.register("my_numpy", lambda device: (array_api_compat.numpy, None))
    >>> with backend.using("my_numpy") as chosen:
    ...     chosen.name
    'my_numpy'
    """
    if not name.isidentifier() or name == "auto":
        raise ValueError(f"backend.register: {name!r} is no usable name; take a Python identifier other than 'auto'")
    if name in BUILTIN:
        raise ValueError(f"backend.register: {name!r} is built in; choose another name")
    LOADERS[name] = loader


def _settled(chosen: Backend) -> Backend:
    """Make the GPU of a backend the one that this thread works on: CuPy launches there, wherever the arrays are.

    Once for each selection: what a program tells CuPy after that holds.
    """
    if _here.settled is not chosen:
        if array_api_compat.is_cupy_namespace(chosen.xp):
            chosen.device.use()
        _here.settled = chosen
    return chosen


def _current_gpu(chosen: Backend) -> Any:
    """Return the GPU that this thread works on if the backend is CuPy's, whose blocks may mix up those of threads."""
    if not array_api_compat.is_cupy_namespace(chosen.xp):
        return None
    import cupy

    return cupy.cuda.Device()


def _resolve(spec: str | None, dtype: str | None) -> Backend:
    config.warn_of_unknown()
    spec = spec or os.environ.get("XPNET_BACKEND") or "auto"
    dtype = dtype or os.environ.get("XPNET_DTYPE") or "float32"
    if spec == "auto":
        return _resolve_auto(dtype)
    name, _, device_name = spec.partition(":")
    if name not in LOADERS:
        raise BackendUnavailableError(
            f"{no_such('backend', spec, ['auto', *LOADERS])} "
            "(with an optional device, as in cupy:1), by XPNET_BACKEND or backend.use()"
        )
    if spec.endswith(":"):
        raise BackendUnavailableError(
            f"backend {spec!r} names no device after the colon; write {name!r} for the default"
        )
    try:
        xp, device = LOADERS[name](device_name or None)
        remember_namespace(xp)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(f"backend {spec!r} cannot be used: {error}") from error
    except Exception as error:  # a third party's loader, or a library broken in a way of its own
        raise BackendUnavailableError(
            f"backend {spec!r} cannot be used: {type(error).__name__}: {error}; "
            "repair or reinstall that library, or choose another backend"
        ) from error
    return Backend(spec, xp, device, dtype_by_name(xp, dtype))


def _resolve_auto(dtype: str) -> Backend:
    try:
        chosen, why = _resolve("cupy", dtype), "a usable CUDA GPU was found"
    except BackendUnavailableError as error:
        chosen, why = _resolve("numpy", dtype), str(error)
    logger.info("backend auto: %s (%s)", chosen.name, why)
    return chosen
