"""The IDX format of MNIST: a short big-endian header and the raw elements, often gzipped.

=========  ===================================================================================
bytes      meaning
=========  ===================================================================================
0, 1       zero
2          element type: 0x08 uint8, 0x09 int8, 0x0B int16, 0x0C int32, 0x0D float32, 0x0E float64
3          number of dimensions D
4 .. 4+4D  the D sizes, big-endian uint32
then       the elements in C order, big-endian
=========  ===================================================================================

A data file comes from elsewhere, so nothing in it is believed before it is checked: the header is
weighed against a limit and against the file's own size before memory is taken for the elements, and
what gzip unpacks is never more than was promised.
"""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from xpnet.data._reading import REMEDY, opened, read_exactly
from xpnet.errors import DataError
from xpnet.files import atomic_write

__all__ = ["read_idx", "write_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_CODES = {name: code for code, name in _TYPES.items()}
_MAX_DIMENSIONS = 8


def read_idx(path: str | os.PathLike[str], *, ndim: int | None = None, max_bytes: int = 1 << 30) -> npt.NDArray[Any]:
    """Read an IDX file, gzipped or not (told by its first bytes, not by its name).

    Parameters
    ----------
    path : str or path
    ndim : int, optional
        The number of dimensions the file must have: 3 for grey images, 1 for labels.
    max_bytes : int, default 1 GiB
        Most memory the elements may take; a larger promise in the header is refused unread.

    Returns
    -------
    ndarray
        Writable, in native byte order: uint8, int8, int16, int32, float32 or float64, of the shape
        in the header.

    Raises
    ------
    DataError
        If the file is missing, unreadable, no IDX file, corrupt, shorter or longer than its header
        promises, of another number of dimensions than `ndim`, or larger than `max_bytes`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from xpnet.data import read_idx, write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "labels-idx1-ubyte.gz")
    ...     write_idx(path, np.array([5, 0, 4], dtype=np.uint8))
    ...     read_idx(path, ndim=1)
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    with opened(path, "an IDX file") as (stream, size):
        dtype, shape = _read_header(stream, path, ndim)
        count = _checked_bytes(path, dtype, shape, max_bytes)
        if size is not None:
            _check_file_size(path, size, 4 + 4 * len(shape), count)
        data = read_exactly(stream, path, count, "elements")
        # This one byte also makes gzip reach the end of its stream and compare the check sum.
        if stream.read(1):
            raise DataError(f"{path}: expected {count} bytes of elements, but more follow; {REMEDY}")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], path: Path, ndim: int | None) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataError(
            f"{path}: expected an IDX file, which begins with 00 00, a type of "
            f"{', '.join(f'{code:02x}' for code in _TYPES)} and the number of dimensions; "
            f"its first bytes are {magic.hex(' ') or 'missing (the file is empty)'}; {REMEDY}"
        )
    dimensions = magic[3]
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise DataError(f"{path}: expected 1 to {_MAX_DIMENSIONS} dimensions, the header says {dimensions}; {REMEDY}")
    if ndim is not None and dimensions != ndim:
        raise DataError(
            f"{path}: expected {ndim} dimension(s), the header says {dimensions}; "
            "grey images have 3 and labels 1: were the two files swapped?"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path}: expected a header of {4 + 4 * dimensions} bytes, the file ends after {4 + len(sizes)}; {REMEDY}"
        )
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    return np.dtype(">" + _TYPES[magic[2]]), shape


def _checked_bytes(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], max_bytes: int) -> int:
    """Return the bytes of the elements, if that is within the limit."""
    # NumPy refuses (0, 2**32 - 1, 2**32 - 1) as well, empty as it is: so a 0 counts as 1 here
    if dtype.itemsize * math.prod(max(size, 1) for size in shape) > max_bytes:
        raise DataError(
            f"{path}: the header promises shape {shape} of {dtype.itemsize}-byte elements, more than the "
            f"limit of {max_bytes} bytes; raise max_bytes if the file is really that large, else {REMEDY}"
        )
    return dtype.itemsize * math.prod(shape)


def _check_file_size(path: Path, size: int, header: int, count: int) -> None:
    """Refuse a promise that the size of the file on disk already contradicts."""
    if size != header + count:
        raise DataError(
            f"{path}: expected {header + count} bytes ({header} of header, {count} of elements), "
            f"the file has {size}: it is {'truncated' if size < header + count else 'too long'}; {REMEDY}"
        )


def write_idx(path: str | os.PathLike[str], array: npt.ArrayLike) -> None:
    """Write an array as an IDX file, gzipped if the name ends with ``.gz``.

    The file appears under its name only when it is complete, and the same array always gives the
    same bytes (the gzip header holds neither a time nor a name).

    Parameters
    ----------
    path : str or path
        Its folder must exist; a file already there is replaced.
    array : array_like
        1 to 8 dimensions; uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    DataError
        If IDX has no such element type or cannot hold the shape, or the folder does not exist.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from xpnet.data import write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "images-idx3-ubyte")
    ...     write_idx(path, np.zeros((2, 28, 28), dtype=np.uint8))
    ...     os.path.getsize(path)
    1584
    """
    array = np.asarray(array)
    code = _CODES.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if code is None:
        raise DataError(
            f"write_idx: IDX holds uint8, int8, int16, int32, float32 and float64, the array is "
            f"{array.dtype}; convert it first, as in array.astype('int32')"
        )
    if not 1 <= array.ndim <= _MAX_DIMENSIONS or max(array.shape) >= 1 << 32:
        raise DataError(
            f"write_idx: expected 1 to {_MAX_DIMENSIONS} dimensions of less than 2**32, "
            f"the array's shape is {array.shape}; reshape it"
        )
    if not Path(path).parent.is_dir():
        raise DataError(f"write_idx: the folder {Path(path).parent} does not exist; create it first")
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    elements = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">"))
    with atomic_write(path) as file:
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                packed.write(header)
                packed.write(elements.tobytes())
        else:
            file.write(header)
            file.write(elements.tobytes())
