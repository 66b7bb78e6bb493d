"""The data sets that come with a function of their own: MNIST, Fashion-MNIST and scikit-learn's digits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.data import fetch
from xpnet.data._sources import DIGITS, FASHION_MNIST, MNIST, Source
from xpnet.data.dataset import Dataset, Split
from xpnet.data.idx import read_idx
from xpnet.data.split import stratified_split
from xpnet.errors import DataError
from xpnet.optional import require

__all__ = ["Dataset", "Split", "digits", "fashion_mnist", "load", "mnist", "stratified_split"]


def mnist(*, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28, grey.

    The four IDX files (``train-images-idx3-ubyte``, ..., gzipped or not) are looked for in
    ``mnist/`` and ``MNIST/raw/`` below ``$XPNET_DATA``, in ``$XPNET_DATA`` itself, and in the cache
    folder, and else downloaded to the cache folder (not with ``XPNET_OFFLINE=1``). A download is
    checked against its published checksum; files that are already there are checked for their
    structure only (format, shape, counts, labels), so put what you like there.

    Parameters
    ----------
    root : str or path, optional
        Look below this folder, and in it, and nowhere else; nothing is downloaded then.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 1, 28, 28) from 0 to 255, ``t`` int64 (N,) from 0 to 9.

    Raises
    ------
    DataError
        If a file is missing and cannot be downloaded, or is damaged.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> from xpnet import data
    >>> data.mnist()                                        # doctest: +SKIP
    <Dataset mnist: 60000 train, 10000 test, (1, 28, 28) uint8 0..255, 10 classes>
    """
    return _load_idx(MNIST, root)


def fashion_mnist(*, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28, grey.

    Looked for in ``fashion-mnist/``, ``fashion_mnist/`` and ``FashionMNIST/raw/``; all else is as
    in `mnist`: the files have the same names and shapes. For that reason ``$XPNET_DATA`` itself
    counts only if "fashion" is part of its path (and for `mnist` only if it is not).

    Parameters
    ----------
    root : str or path, optional
        Look below this folder, and in it, and nowhere else; nothing is downloaded then.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 1, 28, 28) from 0 to 255, ``t`` int64 (N,) from 0 to 9.

    Raises
    ------
    DataError
        If a file is missing and cannot be downloaded, or is damaged.

    References
    ----------
    Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017, arXiv:1708.07747.

    Examples
    --------
    >>> from xpnet import data
    >>> data.fashion_mnist().classes[:2]                    # doctest: +SKIP
    ('T-shirt/top', 'Trouser')
    """
    return _load_idx(FASHION_MNIST, root)


def _loose(source: Source) -> bool:
    # MNIST and Fashion-MNIST differ in nothing but the folder's name: taking loose files for the
    # wrong one of the two would go unnoticed.
    return ("fashion" in os.environ.get("XPNET_DATA", "").lower()) == (source is FASHION_MNIST)


def _is_local(source: Source, root: str | os.PathLike[str] | None) -> bool:
    return all(fetch.find(name, source.folders, root=root, loose=_loose(source)) for name in source.checksums)


def _load_idx(source: Source, root: str | os.PathLike[str] | None) -> Dataset:
    paths = [
        fetch.find_or_download(name, source.folders, source.mirrors, checksum, root=root, loose=_loose(source))
        for name, checksum in source.checksums.items()
    ]
    x_train, x_test = _read_images(paths[0]), _read_images(paths[2])
    t_train, t_test = _read_labels(paths[1]), _read_labels(paths[3])
    for images, labels, x, t in (
        (paths[0], paths[1], x_train, t_train),
        (paths[2], paths[3], x_test, t_test),
    ):
        if len(x) != len(t):
            raise DataError(
                f"{images} holds {len(x)} images but {labels} holds {len(t)} labels; take both from one source"
            )
    return Dataset(x_train, t_train, x_test, t_test, source.classes, source.name, 255.0)


def _read_images(path: Path) -> npt.NDArray[np.uint8]:
    x = read_idx(path, ndim=3)
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28):
        raise DataError(
            f"{path}: expected images of 28 x 28 uint8, the file holds {x.shape[1:]} of {x.dtype}; "
            "replace it by a fresh copy"
        )
    return x[:, np.newaxis]


def _read_labels(path: Path) -> npt.NDArray[np.int64]:
    t = read_idx(path, ndim=1)
    if t.dtype != np.uint8 or (t.size and t.max() > 9):
        raise DataError(
            f"{path}: expected uint8 labels from 0 to 9, the file holds {t.dtype} "
            f"up to {t.max() if t.size else 'nothing'}; replace it by a fresh copy"
        )
    return t.astype(np.int64)


def digits(*, test_fraction: float = 0.2, seed: int = 0, upscale: int = 1) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8, grey: small, and never a download.

    Parameters
    ----------
    test_fraction : float, default 0.2
        Share of every class that goes to the test half (to within one sample).
    seed : int, default 0
        Decides which samples those are.
    upscale : int, default 1
        Repeat every pixel so many times both ways: 4 gives 32 x 32, the input of LeNet.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 1, 8 * upscale, 8 * upscale) from 0 to **16**, ``t`` int64 (N,) from 0 to 9.
        Give `Loader` ``scale=data.scale``, or use ``data.scaled()``, to come to 0..1.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.
    ValueError
        If `test_fraction` or `upscale` makes no sense.

    Examples
    --------
    >>> from xpnet import data
    >>> data.digits(upscale=4)                              # doctest: +SKIP
    <Dataset digits: 1438 train, 359 test, (1, 32, 32) uint8 0..16, 10 classes>
    """
    if isinstance(upscale, bool) or not isinstance(upscale, int) or upscale < 1:
        raise ValueError(f"digits: upscale is {upscale!r}; give a whole number from 1 on")
    source = require("sklearn.datasets", "the digits data set").load_digits()
    x = source.images.astype(np.uint8)[:, np.newaxis]
    x = x.repeat(upscale, axis=2).repeat(upscale, axis=3)
    t = source.target.astype(np.int64)
    rest, chosen = stratified_split(t, test_fraction, seed)
    return Dataset(x[rest], t[rest], x[chosen], t[chosen], DIGITS, "digits", 16.0)


_LOADERS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
}


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "digits", "auto"}
        ``"auto"`` is MNIST where all its files are on this machine, else digits; it never downloads.
    **options
        Passed to the function of that name. For ``"auto"``, `root` says where to look for MNIST
        and all others are for digits.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no such name.
    DataError, MissingDependencyError
        As the function of that name does.

    Examples
    --------
    >>> from xpnet import data
    >>> data.load("imagenet")
    Traceback (most recent call last):
    ...
    ValueError: unknown data set 'imagenet'; choose from auto, digits, fashion_mnist, mnist
    """
    key = name.lower().replace("-", "_")
    if key == "auto":
        root = options.pop("root", None)
        return mnist(root=root) if _is_local(MNIST, root) else digits(**options)
    if key not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; choose from auto, {', '.join(_LOADERS)}")
    return _LOADERS[key](**options)
