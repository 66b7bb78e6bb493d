"""Weights files: safetensors, from and to any backend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import backend
from xpnet.errors import WeightsError
from xpnet.files import atomic_write
from xpnet.layers.base import Layer
from xpnet.optional import require

__all__ = ["load_weights", "save_weights"]


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
    safetensors = require("safetensors.numpy", "saving weights")
    arrays = {name: np.ascontiguousarray(backend.to_numpy(a)) for name, a in model.state_dict().items()}
    about = {"version": xpnet.__version__, "model": type(model).__name__, "input_shape": model.input_shape}
    # one entry: safetensors writes several in random order, and equal weights should give equal files
    metadata = {"xpnet": json.dumps(about)}
    content = safetensors.save(arrays, metadata=metadata)
    with atomic_write(path) as file:
        file.write(content)
    return Path(path)


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Read a weights file into a built model, whatever backend or float type wrote it.

    Parameters
    ----------
    model : Layer
        Built like the one that was saved.
    path : str or path

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
    try:
        model.load_state_dict(_read(path))
    except WeightsError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise WeightsError(f"{path}: {error}") from None


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    safetensors = require("safetensors", "loading weights")
    unchanged = "The model has not been changed."
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file. {unchanged}") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: no safetensors file, or a damaged one ({error}). {unchanged}") from error
