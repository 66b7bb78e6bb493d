"""Reading files that nobody vouches for: memory grows with what really comes, and errors name the file."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from xpnet.errors import DataError

REMEDY = "replace the file by a fresh copy, or check that it is the one you meant"

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


@contextlib.contextmanager
def opened(path: Path, kind: str, *, gzipped: bool = True) -> Iterator[tuple[IO[bytes], int | None]]:
    """Open a regular file, unpacking gzip if its first bytes say so and `gzipped` allows it.

    Yields the stream and the number of bytes in it: None if gzip is unpacked, as nobody knows then.
    What the operating system and gzip raise, in the block too, becomes a `DataError`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise DataError(f"{path}: expected {kind}, but this is no regular file; {REMEDY}")
        with open(path, "rb") as file:
            packed = gzipped and file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if packed:
                yield cast(IO[bytes], gzip.GzipFile(fileobj=file)), None
            else:
                yield file, status.st_size
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        size = os.path.getsize(path)
        raise DataError(
            f"{path}: the gzip stream is truncated or corrupt ({error}, {size} bytes on disk); {REMEDY}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error


def read_exactly(stream: IO[bytes], where: object, count: int, what: str) -> bytearray:
    """Read `count` bytes, however many are there; `what` and `where` are for the message."""
    data = bytearray()  # grows with what really comes: a few bytes of gzip may promise a gigabyte
    while len(data) < count and (chunk := stream.read(min(_CHUNK, count - len(data)))):
        data += chunk
    if len(data) < count:
        raise DataError(
            f"{where}: expected {count} bytes of {what}, only {len(data)} came: the file is truncated; {REMEDY}"
        )
    return data


def skip(stream: IO[bytes], where: object, count: int, what: str) -> None:
    """Read `count` bytes and forget them."""
    for start in range(0, count, _CHUNK):
        read_exactly(stream, where, min(_CHUNK, count - start), what)
