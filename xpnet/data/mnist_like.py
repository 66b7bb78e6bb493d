"""MNIST and its likes, Fashion-MNIST and Kuzushiji-MNIST: four IDX files of the same names and shapes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xpnet.data import fetch
from xpnet.data._sources import FASHION_MNIST, KMNIST, MNIST, Source
from xpnet.data.dataset import Dataset
from xpnet.data.idx import read_idx
from xpnet.errors import DataError

__all__ = ["fashion_mnist", "kmnist", "local_files", "mnist", "mnist_is_local"]


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
    counts only if "fashion" is part of its path (and for `mnist` only if neither that nor "kmnist" is).

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


def kmnist(*, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Kuzushiji-MNIST: 60,000 training and 10,000 test images of ten cursive hiragana, 28 x 28, grey.

    Looked for in ``kmnist/`` and ``KMNIST/raw/``; all else is as in `mnist`, but that ``$XPNET_DATA``
    itself counts only if "kmnist" is part of its path.

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
    Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha, "Deep learning for classical Japanese literature",
    2018, arXiv:1812.01718. The images are under CC BY-SA 4.0.

    Examples
    --------
    >>> from xpnet import data
    >>> data.kmnist().classes[:3]                           # doctest: +SKIP
    ('o', 'ki', 'su')
    """
    return _load_idx(KMNIST, root)


def mnist_is_local(root: str | os.PathLike[str] | None = None) -> bool:
    """Tell whether `mnist` would find all its files on this machine.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mnist_is_local(folder)
    False
    """
    return all(local_files(MNIST, root).values())


def local_files(source: Source, root: str | os.PathLike[str] | None = None) -> dict[str, Path | None]:
    """Return where each file of a data set lies on this machine; None if it does not."""
    return {name: fetch.find(name, source.folders, root=root, loose=_loose(source)) for name in source.checksums}


def _loose(source: Source) -> bool:
    # The three differ in nothing but the folder's name: taking loose files for the wrong one of
    # them would go unnoticed.
    path = os.environ.get("XPNET_DATA", "").lower()
    return source is (FASHION_MNIST if "fashion" in path else KMNIST if "kmnist" in path else MNIST)


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
