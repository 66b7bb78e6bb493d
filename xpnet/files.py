"""Writing a file so that its name never shows half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and give it that name when the block ends well.

    Whatever ends the block early, Ctrl-C included, removes the temporary file and leaves a former
    file at `path` as it was.

    Parameters
    ----------
    path : str or path
        Where the finished file goes; its folder must exist.

    Yields
    ------
    binary file
        Open for writing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a.bin")) as file:
    ...         _ = file.write(b"abc")
    ...     os.listdir(folder)
    ['a.bin']
    """
    path = Path(path)
    # The same folder, since a rename is atomic only within one file system. Not tempfile: its files
    # are readable by the owner alone, and a rename keeps that, whatever the user's umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
