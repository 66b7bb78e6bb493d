"""Writing a file so that its name never shows half of it, and reading what the system tells in files."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write", "read_system_file"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and give it that name when the block ends well.

    A crash at any moment, of the program or of the machine, leaves the former file or the finished one.
    Whatever ends the block early, Ctrl-C included, removes the temporary file and leaves a former
    file at `path` as it was. A link stays, and the file that it names is replaced; what is no file, such as
    ``/dev/stdout`` or a named pipe, is written to.

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
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb") as file:  # the rename would put a file in the place of the device
            yield file
        return
    asked, path = path, Path(os.path.realpath(path))
    # The same folder, since a rename is atomic only within one file system. Not tempfile: its files
    # are readable by the owner alone, and a rename keeps that, whatever the user's umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(asked)  # the one that whoever reads the message knows
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_system_file(path: str) -> str:
    """Return the text of a file such as ``/proc/meminfo``; nothing where the system has none, or does not show it."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where folders can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
