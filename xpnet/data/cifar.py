"""CIFAR-10 and CIFAR-100: found on this machine, else downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from xpnet.data import fetch
from xpnet.data._sources import CIFAR10, CIFAR100, Archive
from xpnet.data.cifar_binary import MAX_BYTES, check_labels, read_cifar
from xpnet.data.dataset import Dataset

__all__ = ["cifar10", "cifar100", "local_files"]


def cifar10(*, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-10: 50,000 training and 10,000 test images of ten kinds of things, 32 x 32, in colour.

    Looked for in ``cifar10/`` and ``cifar-10/`` below ``$XPNET_DATA``, in ``$XPNET_DATA`` itself and in the
    cache folder, as the folder ``cifar-10-batches-bin`` and as ``cifar-10-binary.tar.gz``; else the archive is
    downloaded to the cache folder (162 MB; not with ``XPNET_OFFLINE=1``) and checked against its published
    checksum. It is read as it is and never unpacked to disk.

    Parameters
    ----------
    root : str or path, optional
        Look below this folder, and in it, and nowhere else; nothing is downloaded then.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 3, 32, 32) from 0 to 255, ``t`` int64 (N,) from 0 to 9.

    Raises
    ------
    DataError
        If it is missing and cannot be downloaded, or is damaged.

    References
    ----------
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from xpnet import data
    >>> data.cifar10()                                      # doctest: +SKIP
    <Dataset cifar10: 50000 train, 10000 test, (3, 32, 32) uint8 0..255, 10 classes>
    """
    return _load(CIFAR10, root, "fine")


def cifar100(*, labels: str = "fine", root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-100: as CIFAR-10, with 100 classes that form 20 groups of five.

    Looked for in ``cifar100/`` and ``cifar-100/``, as the folder ``cifar-100-binary`` and as
    ``cifar-100-binary.tar.gz``; all else is as in `cifar10`.

    Parameters
    ----------
    labels : {"fine", "coarse"}
        Whether `t` and `classes` are the 100 classes or the 20 groups.
    root : str or path, optional
        Look below this folder, and in it, and nowhere else; nothing is downloaded then.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 3, 32, 32) from 0 to 255, ``t`` int64 (N,) from 0 to 99 or 19.

    Raises
    ------
    ValueError
        If there are no such labels.
    DataError
        If it is missing and cannot be downloaded, or is damaged.

    References
    ----------
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from xpnet import data
    >>> data.cifar100(labels="coarse").classes[:2]          # doctest: +SKIP
    ('aquatic_mammals', 'fish')
    """
    return _load(CIFAR100, root, labels)


def _load(source: Archive, root: str | os.PathLike[str] | None, labels: str) -> Dataset:
    check_labels(source, labels)  # before a download
    folder = _folder(source, root)
    if folder is not None:
        return read_cifar(folder, labels=labels)
    archive = fetch.find_or_download(
        source.archive,
        source.folders,
        source.mirrors,
        source.checksum,
        root=root,
        max_bytes=MAX_BYTES,
        remedy=f"this file, or the folder {source.unpacked} that is in it,",
    )
    return read_cifar(archive, labels=labels)


def local_files(source: Archive) -> dict[str, Path | None]:
    """Return where each file that `_load` needs lies on this machine; None if it does not."""
    folder = _folder(source, None)
    if folder is None:
        return {source.archive: fetch.find(source.archive, source.folders)}
    paths = [folder / name for name in (*source.train, source.test)]
    return {path.name: path if path.is_file() else None for path in paths}


def _folder(source: Archive, root: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that the archive was unpacked to, if it has been."""
    places = [f"{folder}/{source.unpacked}" for folder in source.folders] + [source.unpacked, *source.folders]
    # `test.bin` could be anything, so a folder that does not say what it is does not count
    loose = source.unpacked in os.environ.get("XPNET_DATA", "")
    found = fetch.find(source.test, places, root=root, loose=loose, suffixes=("",))
    return None if found is None else found.parent
