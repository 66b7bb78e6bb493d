"""Reading chosen members of a tar archive in one go, believing nothing in it and writing nothing to disk.

Not by `tarfile`, which takes the memory that an extended header asks for, and follows what links and
sparse files in an archive say.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO

from xpnet.data._reading import REMEDY, opened, read_exactly, skip
from xpnet.errors import DataError

_BLOCK = 512
_REGULAR = (b"0", b"\0", b"7")


def read_members(path: Path, wanted: Collection[str], max_bytes: int) -> dict[str, bytearray]:
    """Return the contents of the files called so, in whichever folder of the archive (gzipped or not) they are.

    Together all members, skipped ones too, may hold `max_bytes`. A damaged archive, a name that comes
    twice and more bytes than that are a `DataError`; a name that is not there is missing in the result.
    """
    found: dict[str, bytearray] = {}
    left = max_bytes
    with opened(path, "a tar archive") as (stream, size):
        if size is not None:
            left = min(left, size)
        while header := _next_header(stream, path):
            name, kind, count = header
            where = f"{path}: {name}"
            if count > left:
                raise DataError(
                    f"{where}: the archive promises {count} bytes, more than the {left} that may still come (of the "
                    f"file and of max_bytes={max_bytes}); {REMEDY}"
                )
            left -= count
            if name in wanted and kind in _REGULAR:
                if name in found:
                    raise DataError(f"{where} is in the archive twice; {REMEDY}")
                found[name] = read_exactly(stream, where, count, "the archive")
            else:
                skip(stream, where, count, "the archive")
            skip(stream, where, -count % _BLOCK, "the archive")
        _finish(stream, path, max_bytes)
    return found


def _next_header(stream: IO[bytes], path: Path) -> tuple[str, bytes, int] | None:
    """Return file name, type and size of the next member; None at the end of the archive."""
    block = bytes(read_exactly(stream, path, _BLOCK, "the archive"))
    if block == bytes(_BLOCK):
        return None
    checksum = _octal(block[148:156])
    if checksum != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise DataError(f"{path}: expected a tar archive, but a header's check sum is wrong; {REMEDY}")
    count = _octal(block[124:136])
    name = PurePosixPath(block[:100].partition(b"\0")[0].decode("utf-8", "replace")).name
    if count is None:
        raise DataError(f"{path}: the size of {name} is no octal number; {REMEDY}")
    return name, block[156:157], count


def _octal(field: bytes) -> int | None:
    text = field.strip(b" \0")
    return int(text, 8) if text and not text.strip(b"01234567") else None


def _finish(stream: IO[bytes], path: Path, limit: int) -> None:
    """Read the padding, which makes gzip compare its check sum."""
    while chunk := stream.read(1 << 16):
        limit -= len(chunk)
        if limit < 0 or chunk.strip(b"\0"):
            raise DataError(f"{path}: more follows the end of the archive; {REMEDY}")
