"""A data set in one .npz file, as `numpy.savez` writes it and as Keras publishes its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xpnet.data._npy import read_arrays
from xpnet.data.arrays import assemble
from xpnet.data.dataset import Dataset
from xpnet.errors import DataError

__all__ = ["npz"]

_NAMES = {
    "x_train": ("x_train",),
    "t_train": ("t_train", "y_train"),
    "x_test": ("x_test",),
    "t_test": ("t_test", "y_test"),
    "x_validation": ("x_validation", "x_val"),
    "t_validation": ("t_validation", "t_val", "y_validation", "y_val"),
}


def npz(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    max_value: float | None = None,
    layout: str = "auto",
    max_bytes: int = 4 << 30,
) -> Dataset:
    """Read a data set from an .npz file, compressed or not.

    The arrays are called ``x_train``, ``t_train``, ``x_test`` and ``t_test``, and those for validation, if there
    are any, ``x_validation`` and ``t_validation``. Labels may be called ``y`` instead of ``t``, as Keras does,
    and validation ``val``. Others are not looked at. What images and labels may be is as in `from_arrays`.

    Nothing in the file is executed: arrays of objects, which are pickles, are refused. Headers are checked
    against the file before memory is taken.

    Parameters
    ----------
    path : str or path
    classes : sequence of str, optional
        What the classes are called; by default their numbers.
    name : str, optional
        By default that of the file.
    max_value : float, optional
        The largest value a pixel can have; by default 255 for integers, 1 for floats and booleans.
    layout : {"auto", "NCHW", "NHWC"}
        Where the channels of four axes are.
    max_bytes : int, default 4 GiB
        Most memory the arrays may take.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged or larger than `max_bytes`, lacks an array, or its
        arrays do not fit together.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from xpnet import data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "pets.npz")
    ...     x, t = np.zeros((6, 8, 8, 3), dtype=np.uint8), np.arange(6) % 2
    ...     np.savez(path, x_train=x, y_train=t, x_test=x, y_test=t)
    ...     data.npz(path, classes=["cat", "dog"])
    <Dataset pets: 6 train, 6 test, (3, 8, 8) uint8 0..255, 2 classes>
    """
    path = Path(path)
    arrays, present = read_arrays(path, {name for names in _NAMES.values() for name in names}, max_bytes)
    found = {}
    for field, names in _NAMES.items():
        here = [name for name in names if name in arrays]
        if len(here) > 1:
            raise DataError(f"{path}: {' and '.join(here)} mean the same; keep one of them")
        if here:
            found[field] = arrays[here[0]]
    needed = [field for field in _NAMES if "validation" not in field or "validation" in " ".join(found)]
    missing = [" or ".join(_NAMES[field]) for field in needed if field not in found]
    if missing:
        raise DataError(
            f"{path}: no array {', no array '.join(missing)}; it holds {', '.join(present[:20]) or 'nothing'}: "
            "save it by numpy.savez(path, x_train=..., t_train=..., x_test=..., t_test=...)"
        )
    parts = {
        part: (found[f"x_{part}"], found[f"t_{part}"])
        for part in ("train", "validation", "test")
        if f"x_{part}" in found
    }
    return assemble(
        parts, classes=classes, name=path.stem if name is None else name, max_value=max_value, layout=layout
    )
