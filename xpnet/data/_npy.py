"""Reading arrays out of an .npz file, believing nothing in it: no pickle, no eval, no memory on a promise.

NumPy's own reader takes the memory that a header asks for before it looks at what is there, and
unpacks a header of any length to find that it is too long.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.data._reading import REMEDY, opened, read_exactly
from xpnet.errors import DataError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1 << 12
_MAX_MEMBERS = 1 << 12
_MAX_DIMENSIONS = 8
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DESCR = re.compile(rb"'descr'\s*:\s*'([^'\\]{1,16})'")
_ORDER = re.compile(rb"'fortran_order'\s*:\s*(True|False)\b")
_SHAPE = re.compile(rb"'shape'\s*:\s*\(([\d\s,]*)\)")
_TYPE = re.compile(r"[<>|=]?[biuf](1|2|4|8)")


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def read_arrays(path: Path, wanted: Collection[str], max_bytes: int) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Return those of the arrays called so that are there, and the names of all.

    A file that is no .npz, is damaged or holds anything but plain numbers under those names is a
    `DataError`, and so are more than `max_bytes` of elements.
    """
    try:
        with opened(path, "an .npz file", gzipped=False) as (stream, size), zipfile.ZipFile(stream) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()[:_MAX_MEMBERS]}
            arrays, left = {}, max_bytes
            for name in sorted(set(wanted) & set(members)):
                where = f"{path}: {name}"
                info = members[name]
                if info.compress_type not in _METHODS or info.flag_bits & 1 or info.compress_size > (size or 0):
                    raise DataError(f"{where} is packed in a way that NumPy does not use; {REMEDY}")
                with archive.open(info) as member:
                    arrays[name] = _read_array(member, where, info.file_size, left, max_bytes)
                left -= arrays[name].nbytes
            return arrays, sorted(members)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: no .npz file, or a damaged one ({error}); {REMEDY}") from error
    except (ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: no .npz file, or a damaged one ({error}); {REMEDY}") from error


def _read_array(stream: IO[bytes], where: str, size: int, left: int, max_bytes: int) -> npt.NDArray[Any]:
    length, header = _read_header(stream, where)
    if header.nbytes > left:
        raise DataError(
            f"{where}: the header promises shape {header.shape} of {header.dtype}, {header.nbytes} bytes, more than "
            f"the {left} left of max_bytes={max_bytes}; raise it if the file is really that large, else {REMEDY}"
        )
    if size != length + header.nbytes:
        raise DataError(
            f"{where}: the header promises shape {header.shape} of {header.dtype}, {header.nbytes} bytes, but "
            f"{size - length} are announced; {REMEDY}"
        )
    data = read_exactly(stream, where, header.nbytes, "elements")
    if stream.read(1):  # this also makes zipfile compare the check sum
        raise DataError(f"{where}: expected {header.nbytes} bytes of elements, but more follow; {REMEDY}")
    array = np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], where: str) -> tuple[int, _Header]:
    """Return the length of the header, and what it says."""
    start = bytes(read_exactly(stream, where, 8, "the header"))
    width = {1: 2, 2: 4, 3: 4}.get(start[6])
    if start[:6] != _MAGIC or width is None:
        raise DataError(f"{where}: expected an array in NumPy's format, it begins with {start.hex(' ')}; {REMEDY}")
    length = int.from_bytes(read_exactly(stream, where, width, "the header"), "little")
    if length > _MAX_HEADER:
        raise DataError(f"{where}: a header of {length} bytes, more than a plain array has; {REMEDY}")
    text = bytes(read_exactly(stream, where, length, "the header"))
    descr, order, shape = (pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE))
    if descr is None or order is None or shape is None or not _TYPE.fullmatch(descr[1].decode("latin-1")):
        raise DataError(
            f"{where}: expected an array of plain numbers, the header is {text[:80]!r}; arrays of objects are "
            "pickles, which could run any code, and are refused: save numbers"
        )
    sizes = tuple(int(number) for number in shape[1].split(b",") if number.strip())
    if len(sizes) > _MAX_DIMENSIONS or max(sizes, default=0) >= 1 << 48:
        raise DataError(f"{where}: the header promises shape {sizes}, more than can be; {REMEDY}")
    try:
        dtype = np.dtype(descr[1].decode("latin-1"))
    except TypeError as error:
        raise DataError(f"{where}: NumPy has no type {descr[1].decode('latin-1')!r}; {REMEDY}") from error
    return 8 + width + length, _Header(dtype, sizes, order[1] == b"True")
