"""Weights files: safetensors, from and to any backend."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import backend
from xpnet.errors import WeightsError
from xpnet.files import atomic_write
from xpnet.layers.base import Layer
from xpnet.optional import require

__all__ = ["load_weights", "read_arrays", "save_weights", "write_arrays"]


def save_weights(model: Layer, path: str | os.PathLike[str]) -> Path:
    """Write parameters and running statistics of a built model as a safetensors file.

    The file appears whole or not at all: a crash or Ctrl-C leaves a former file as it was.

    Parameters
    ----------
    model : Layer
    path : str or path
        Its folder must exist; the ending ``.safetensors`` is customary.

    Returns
    -------
    pathlib.Path
        Where the file is.

    Raises
    ------
    StateError
        If the model has not been built.
    MissingDependencyError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xpnet.io import load_weights, save_weights
    >>> from xpnet.layers import Dense
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_weights(Dense(2).build((3,), rng=1), Path(folder, "dense.safetensors"))
    ...     model = Dense(2).build((3,), rng=2)
    ...     load_weights(model, path)
    >>> bool((model.W.data == Dense(2).build((3,), rng=1).W.data).all())
    True
    """
    about = {"version": xpnet.__version__, "model": type(model).__name__, "input_shape": model.input_shape}
    write_arrays(path, {name: backend.to_numpy(a) for name, a in model.state_dict().items()}, about)
    return Path(path)


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Read a weights file into a built model, whatever backend or float type wrote it.

    Parameters
    ----------
    model : Layer
        Built like the one that was saved.
    path : str or path
        Of `save_weights`, of another program, or a checkpoint (`xpnet.training.save_checkpoint`).

    Raises
    ------
    WeightsError
        If the file is missing, is no safetensors file, is damaged or does not fit the model; the
        model is not changed.
    StateError
        If the model has not been built.
    MissingDependencyError
        If safetensors is not installed.

    Examples
    --------
    >>> from xpnet.io import load_weights
    >>> from xpnet.layers import Dense
    >>> load_weights(Dense(2).build((3,)), "missing.safetensors")
    Traceback (most recent call last):
        ...
    xpnet.errors.WeightsError: missing.safetensors: no such file. The model has not been changed.
    """
    arrays, about = read_arrays(path)
    if about is not None and about.get("kind") == "checkpoint":
        arrays = {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}
    try:
        model.load_state_dict(arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write NumPy arrays and a description (plain values) as a safetensors file, whole or not at all."""
    safetensors = require("safetensors.numpy", "saving weights")
    # one entry: safetensors writes several in random order, and equal weights should give equal files
    metadata = {"xpnet": json.dumps(about)}
    content = safetensors.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata=metadata)
    with atomic_write(path) as file:
        file.write(content)


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the arrays of a safetensors file, and xpnet's description of it; None if another program wrote it.

    Raises
    ------
    WeightsError
        If the file is missing or damaged.
    """
    safetensors = require("safetensors", "loading weights")
    unchanged = "The model has not been changed."
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            text = (file.metadata() or {}).get("xpnet")
        about = None if text is None else json.loads(text)
    except FileNotFoundError:
        raise WeightsError(f"{path}: {_why_not_opened(path)}. {unchanged}") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: no safetensors file, or a damaged one ({error}). {unchanged}") from error
    return arrays, about if isinstance(about, dict) else None


def _why_not_opened(path: str | os.PathLike[str]) -> str:
    """Tell apart what safetensors does not: it calls files that may not be read missing, too."""
    try:
        with open(path, "rb"):
            pass
    except PermissionError:
        return "permission denied; make the file readable for this user"
    except OSError:
        pass
    return "no such file"
