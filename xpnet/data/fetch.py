"""Finding data files on this machine, and downloading those that are not there.

======================  =======================================================================
``XPNET_DATA``          a folder of data sets that you keep yourself (``$XPNET_DATA/mnist/...``)
``XPNET_CACHE``         where downloads go; by default ``$XDG_CACHE_HOME/xpnet`` or
                        ``~/.cache/xpnet``
``XPNET_OFFLINE=1``     never download
======================  =======================================================================
"""

from __future__ import annotations

import http.client
import logging
import os
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from xpnet.data._download import download
from xpnet.errors import DataError

__all__ = ["cache_folder", "find", "find_or_download"]

logger = logging.getLogger("xpnet")


def cache_folder() -> Path:
    """Return the folder that downloads go to (it need not exist yet).

    Examples
    --------
    >>> isinstance(cache_folder(), Path)
    True
    """
    if chosen := os.environ.get("XPNET_CACHE"):
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        base = os.path.expanduser("~/.cache")
    return Path(base, "xpnet")


def _offline() -> bool:
    return os.environ.get("XPNET_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def _places(folder_names: Sequence[str], root: str | os.PathLike[str] | None, loose: bool) -> list[Path]:
    """List the folders to look in, the first choice first."""
    if root is not None:
        base = Path(os.path.expanduser(root))
        return [*(base / folder for folder in folder_names), base]
    places = []
    if chosen := os.environ.get("XPNET_DATA"):
        base = Path(os.path.expanduser(chosen))
        places += [base / folder for folder in folder_names]
        places += [base] if loose else []
    return places + [cache_folder() / folder for folder in folder_names]


def find(
    name: str,
    folder_names: Sequence[str],
    *,
    root: str | os.PathLike[str] | None = None,
    loose: bool = True,
    suffixes: Sequence[str] = ("", ".gz"),
) -> Path | None:
    """Return where the file `name` (or `name`.gz) lies on this machine, or None.

    Parameters
    ----------
    name : str
        File name without ``.gz``.
    folder_names : sequence of str
        Folders it may be in, below ``$XPNET_DATA`` and below the cache folder.
    root : str or path, optional
        Look below this folder, and in it, instead.
    loose : bool, default True
        Look in ``$XPNET_DATA`` itself too.
    suffixes : sequence of str
        What may follow `name`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a-idx1-ubyte.gz").write_bytes(b"")
    ...     find("a-idx1-ubyte", ["mnist"], root=folder).name
    'a-idx1-ubyte.gz'
    """
    for place in _places(folder_names, root, loose):
        for candidate in (place / f"{name}{suffix}" for suffix in suffixes):
            if os.path.isfile(candidate):  # unlike Path.is_file, False where access is denied
                return candidate
    return None


def find_or_download(
    name: str,
    folder_names: Sequence[str],
    mirrors: Sequence[str],
    checksum: str,
    *,
    root: str | os.PathLike[str] | None = None,
    loose: bool = True,
    max_bytes: int = 64 << 20,
    timeout: float = 30.0,
    remedy: str = "this file and the others of the data set (gzipped or not)",
) -> Path:
    """Return a file of this machine, downloading it to the cache folder if it is not there.

    Looks in ``$XPNET_DATA/<folder>``, ``$XPNET_DATA`` and ``<cache>/<folder>``, with and without
    ``.gz``. A file found there is taken as it is. A download comes over https, is checked against
    `checksum`, and appears under its name only then.

    Parameters
    ----------
    name : str
        File name without ``.gz``; the mirrors serve `name`.gz.
    folder_names : sequence of str
        Folders it may be in; a download goes to the first.
    mirrors : sequence of str
        https addresses of folders, tried in turn.
    checksum : str
        MD5 of `name`.gz, in hexadecimal digits.
    root : str or path, optional
        Look below this folder, and in it, instead, and do not download.
    loose : bool, default True
        Look in ``$XPNET_DATA`` itself too.
    max_bytes : int, default 64 MiB
        A longer download is broken off.
    timeout : float, default 30
        Seconds that a mirror may stay silent.
    remedy : str
        What the message says to put into a folder.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file is nowhere and no mirror gave it. The message lists every place and every
        mirror with its error, and how to go on without a network.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a-idx1-ubyte").write_bytes(b"")
    ...     find_or_download("a-idx1-ubyte", ["mnist"], [], "", root=folder).name
    'a-idx1-ubyte'
    """
    found = find(name, folder_names, root=root, loose=loose)
    if found is not None:
        return found
    places = _places(folder_names, root, loose)
    if root is not None:
        raise DataError(_not_found(name, remedy, places, ["nothing is downloaded where root is given"]))
    if _offline():
        raise DataError(_not_found(name, remedy, places, ["XPNET_OFFLINE is set, so nothing was downloaded"]))
    target = cache_folder() / folder_names[0] / f"{name}.gz"
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            download(url, target, checksum, max_bytes, timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {_reason(error)}")
            logger.info("download failed: %s", failures[-1])
        else:
            return target
    raise DataError(_not_found(name, remedy, places, failures))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _not_found(name: str, remedy: str, places: Sequence[Path], failures: Sequence[str]) -> str:
    chosen = os.environ.get("XPNET_DATA")
    looked = ",\n  ".join(map(str, places))  # with stops, since the command line makes one line of it
    tried = ";\n  ".join(failures or ["no mirror is known"])
    now = f"it is now {chosen!r}" if chosen else "it is not set now"
    return (
        f"{name} (or {name}.gz) was not found. Looked in:\n  {looked}.\nDownloads:\n  {tried}.\n"
        f"Remedy: put {remedy} into {places[0]}, or set\nXPNET_DATA to the folder that holds such a folder ({now})."
    )
