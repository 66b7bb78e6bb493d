"""The binary form in which CIFAR-10 and CIFAR-100 are published.

A file is a row of records, one for each image: the label (CIFAR-100: the coarse label, then the fine
one), a byte each, and 3,072 bytes of pixels: the red plane of 32 rows of 32, the green one, the blue one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xpnet.data._reading import REMEDY, opened, read_exactly
from xpnet.data._sources import CIFAR10, CIFAR100, Archive
from xpnet.data._tar import read_members
from xpnet.data.dataset import Dataset, Images, Labels
from xpnet.errors import DataError

__all__ = ["MAX_BYTES", "check_labels", "read_cifar"]

MAX_BYTES = 256 << 20

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MAX_NAMES = 1 << 16


def read_cifar(path: str | os.PathLike[str], *, labels: str = "fine", max_bytes: int = MAX_BYTES) -> Dataset:
    """Read CIFAR-10 or CIFAR-100 from the folder or the archive (``.tar.gz`` or ``.tar``) that it is published as.

    Which of the two it is follows from the names of the files. Any number of records to a file will do.

    Parameters
    ----------
    path : str or path
        The folder that holds ``test_batch.bin`` or ``test.bin``, or the archive of it.
    labels : {"fine", "coarse"}
        ``"coarse"`` exists for CIFAR-100 only.
    max_bytes : int, default 256 MiB
        Most bytes to read, unpacked; the published files are 184 MB.

    Returns
    -------
    Dataset
        The classes are called as the folder or archive says, or as published where it does not.

    Raises
    ------
    ValueError
        If there are no such labels.
    DataError
        If a file is missing, unreadable, corrupt or larger than `max_bytes`, is no whole number of records,
        or has a label out of range.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from xpnet.data import read_cifar
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train.bin", "test.bin"):      # one image each, of coarse label 4 and fine label 0
    ...         _ = pathlib.Path(folder, name).write_bytes(bytes([4, 0]) + bytes(3072))
    ...     data = read_cifar(folder)
    >>> data.classes[data.t_test[0]]
    'apple'
    """
    path = Path(path)
    if path.is_dir():
        source = _recognised(path, _listed(path))
        files = _read_folder(path, source, max_bytes)
    else:
        wanted = {name for source in (CIFAR10, CIFAR100) for name in _names(source)}
        files = read_members(path, wanted, max_bytes)
        source = _recognised(path, files)
    return _dataset(path, source, files, labels)


def _listed(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def check_labels(source: Archive, labels: str) -> None:
    """Raise ValueError if the records have no such label."""
    if labels not in source.labels:
        raise ValueError(f"{source.name}: labels is {labels!r}; choose from {', '.join(map(repr, source.labels))}")


def _names(source: Archive) -> list[str]:
    return [*source.train, source.test, *(naming.file for naming in source.labels.values())]


def _recognised(path: Path, present: Iterable[str]) -> Archive:
    """Return which of the two has its files here, and all of them."""
    present = set(present)
    sources = [s for s in (CIFAR10, CIFAR100) if not {*s.train, s.test}.isdisjoint(present)]
    if len(sources) != 1:
        raise DataError(
            f"{path}: expected the files of CIFAR-10 (data_batch_1.bin to 5, test_batch.bin) or those of CIFAR-100 "
            f"(train.bin, test.bin), found {'both' if sources else 'neither'}; check the path"
        )
    missing = [name for name in (*sources[0].train, sources[0].test) if name not in present]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} of {sources[0].name} is missing; {REMEDY}")
    return sources[0]


def _read_folder(path: Path, source: Archive, max_bytes: int) -> dict[str, bytearray]:
    files, left = {}, max_bytes
    for name in _names(source):
        if (path / name).exists() or name in (*source.train, source.test):
            with opened(path / name, "a file of CIFAR", gzipped=False) as (stream, size):
                if size is None or size > left:
                    raise DataError(
                        f"{path / name}: {size} bytes are more than the {left} left of max_bytes={max_bytes}; "
                        f"raise it if the files are really that large, else {REMEDY}"
                    )
                files[name] = read_exactly(stream, path / name, size, "records")
                left -= size
    return files


def _dataset(path: Path, source: Archive, files: dict[str, bytearray], labels: str) -> Dataset:
    check_labels(source, labels)
    position, names_file, classes = source.labels[labels]
    if names_file in files:
        classes = _class_names(path / names_file, files[names_file], len(classes))
    record = len(source.labels) + _PIXELS

    def merged(names: tuple[str, ...]) -> tuple[Images, Labels]:
        for name in names:
            if not files[name] or len(files[name]) % record:
                raise DataError(
                    f"{path / name}: expected records of {record} bytes ({len(source.labels)} of labels, {_PIXELS} of "
                    f"pixels), the file has {len(files[name])} bytes; {REMEDY}"
                )
        x = np.empty((sum(len(files[name]) for name in names) // record, *_SHAPE), dtype=np.uint8)
        t = np.empty(len(x), dtype=np.int64)
        start = 0
        for name in names:
            records = np.frombuffer(files.pop(name), dtype=np.uint8).reshape(-1, record)
            part = slice(start, start + len(records))
            t[part] = records[:, position]
            if t[part].max() >= len(classes):
                wrong = int(t[part].argmax())
                raise DataError(
                    f"{path / name}: the label of record {wrong} is {t[part][wrong]}; "
                    f"expected 0 to {len(classes) - 1}; {REMEDY}"
                )
            x[part] = records[:, len(source.labels) :].reshape(-1, *_SHAPE)
            start = part.stop
        return x, t

    return Dataset(*merged(source.train), *merged((source.test,)), classes, source.name, 255.0)


def _class_names(where: Path, content: bytearray, count: int) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in content[:_MAX_NAMES].decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected the names of {count} classes as UTF-8 text ({error}); {REMEDY}") from error
    if len(names) != count:
        raise DataError(f"{where}: expected the names of {count} classes, one to a line, found {len(names)}; {REMEDY}")
    return names
