"""The weights of the book's networks: ``params.pkl``, read without unpickling, and put into a model."""

from __future__ import annotations

import os
import re
import stat

import numpy as np

from xpnet.errors import WeightsError
from xpnet.io._pickled import Interpreter
from xpnet.layers.base import Layer

__all__ = ["import_book_weights", "read_book_params"]

UNCHANGED = "The model has not been changed."


def read_book_params(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a pickled dictionary of arrays, such as the book's ``params.pkl``, without unpickling it.

    Unpickling a file runs whatever it says. Here its opcodes are interpreted instead: nothing is imported or called,
    and no memory is taken for more than the file really holds. Protocols 0 to 5, written with NumPy 1 or 2.

    Parameters
    ----------
    path : str or path
        As written by the book's ``save_params``.

    Returns
    -------
    dict of str to numpy.ndarray
        As in the file, in native byte order; each array has memory of its own.

    Raises
    ------
    WeightsError
        If the file is missing, is damaged, or holds anything but a dictionary of arrays of real numbers.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.5.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from xpnet.io import read_book_params
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "params.pkl")
    ...     _ = path.write_bytes(pickle.dumps({"W1": np.ones((2, 3)), "b1": np.zeros(3)}))
    ...     {name: array.shape for name, array in read_book_params(path).items()}
    {'W1': (2, 3), 'b1': (3,)}
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or a device may have no end
                raise WeightsError(f"{path}: no regular file")
            content = file.read()
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return Interpreter(content).result()
    except WeightsError as error:
        raise WeightsError(f"{path}: not read: {error}") from None


def import_book_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Put the weights of one of the book's networks into a built model of the same layers.

    ``W1`` and ``b1`` go to the model's first layer with weights, ``W2`` and ``b2`` to the second, and so on; shapes
    must agree. The book's conventions are xpnet's: kernels (F, C, KH, KW), dense weights (in, out), images flattened
    channel by channel.

    Parameters
    ----------
    model : Layer
        Built; for instance `SimpleConvNet`, `DeepConvNet` or a `Sequential` of `Dense`, on any backend.
    path : str or path
        A ``params.pkl``; see `read_book_params`.

    Raises
    ------
    WeightsError
        If the file cannot be read or does not fit the model; the model is not changed.
    StateError
        If the model has not been built.

    Examples
    --------
    >>> from xpnet.io import import_book_weights
    >>> from xpnet.models import SimpleConvNet
    >>> import_book_weights(SimpleConvNet().build((1, 28, 28)), "missing.pkl")
    Traceback (most recent call last):
        ...
    xpnet.errors.WeightsError: missing.pkl: no such file. The model has not been changed.
    """
    model._require_built("import_book_weights")
    try:
        given = read_book_params(path)
    except WeightsError as error:
        raise WeightsError(f"{error}. {UNCHANGED}") from None
    try:
        names = _book_names(model)
        _check(model, names, given)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}. {UNCHANGED}") from None
    model.load_state_dict({own: given[book] for book, own in names.items()})


def _book_names(model: Layer) -> dict[str, str]:
    """Return the model's parameters by the names that the book would give them."""
    names: dict[str, str] = {}
    count = 0
    for path, p in model.named_parameters():
        kind = path.rpartition(".")[2]
        if kind not in ("W", "b"):
            raise WeightsError(
                f"the model's {path} {p.shape} has no counterpart in the book, whose networks have W and b"
            )
        count += kind == "W"
        names[f"{kind}{count}"] = path
    buffers = [path for path, _, _ in model.named_buffers()]
    if buffers:
        raise WeightsError(f"the model needs {buffers[0]}, but the book saves no running statistics")
    for path, layer in model.named_layers():
        if getattr(layer, "data_format", "NCHW") != "NCHW":
            raise WeightsError(
                f'layer "{path}" takes images as NHWC, which would be flattened in another order than the book'
            )
    return names


def _check(model: Layer, names: dict[str, str], given: dict[str, np.ndarray]) -> None:
    shapes = {path: p.shape for path, p in model.named_parameters()}
    problems = [f"{key[:40]!r} has no counterpart in the model" for key in given if key not in names]
    problems += [f"there is no {key} for the model's {path}" for key, path in names.items() if key not in given]
    problems += [
        f"{key} has shape {given[key].shape} but the model's {path} {shapes[path]}"
        for key, path in names.items()
        if key in given and given[key].shape != shapes[path]
    ]
    if problems:
        theirs = ", ".join(f"{key[:20]!r} {given[key].shape}" for key in sorted(given, key=_order)[:40])
        ours = ", ".join(f"{path} {shape}" for path, shape in shapes.items())
        raise WeightsError(
            f"the weights do not fit the model: {problems[0][:200]}. The file holds {theirs}; the model {ours}"
        )


def _order(key: str) -> tuple[int, str]:
    number = re.search(r"\d{1,9}", key)
    return int(number[0]) if number else 0, key
