"""Weights of either kind of file."""

from __future__ import annotations

import os
from pathlib import Path

from xpnet.io.book import import_book_weights
from xpnet.io.weights import load_weights
from xpnet.layers.base import Layer

__all__ = ["load_any"]


def load_any(model: Layer, path: str | os.PathLike[str]) -> None:
    """Read a weights file into a built model: the book's if it ends in ``.pkl`` or ``.pickle``, else safetensors.

    Parameters
    ----------
    model : Layer
    path : str or path
        As for `import_book_weights` or `load_weights`.

    Raises
    ------
    WeightsError, StateError, MissingDependencyError
        As they do; the model is not changed.

    Examples
    --------
    >>> from xpnet.io import load_any
    >>> from xpnet.layers import Dense
    >>> load_any(Dense(2).build((3,)), "params.pkl")
    Traceback (most recent call last):
        ...
    xpnet.errors.WeightsError: params.pkl: no such file. The model has not been changed.
    """
    load = import_book_weights if Path(path).suffix in (".pkl", ".pickle") else load_weights
    load(model, path)
