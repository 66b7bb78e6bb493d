"""One download: over https, bounded, checked, and visible under its name only when it is right."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from xpnet.files import atomic_write

logger = logging.getLogger("xpnet")

_CHUNK = 1 << 16


def download(url: str, target: Path, checksum: str, max_bytes: int, timeout: float) -> None:
    """Stream `url` to `target` by way of a temporary file; ValueError says what was wrong with it."""
    if not url.startswith("https://"):
        raise ValueError("refused: downloads go over https only")
    logger.info("downloading %s to %s", url, target)
    digest = hashlib.md5(usedforsecurity=False)  # the sum its makers published: against accidents
    received = 0
    with contextlib.closing(_open(url, timeout)) as response, atomic_write(target) as file:
        promised = _content_length(response)
        if promised is not None and promised > max_bytes:
            raise ValueError(f"refused: {promised} bytes announced, the limit is {max_bytes}")
        with _progress(target.name, promised) as advance:
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                if received > max_bytes:
                    raise ValueError(f"broken off: more than the limit of {max_bytes} bytes")
                file.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
        if promised is not None and received < promised:
            raise ValueError(f"broke off after {received} of {promised} bytes")
        if digest.hexdigest() != checksum.lower():
            raise ValueError(f"wrong checksum: MD5 {digest.hexdigest()}, expected {checksum.lower()}")


def _content_length(response: Any) -> int | None:
    text = response.headers.get("Content-Length") or ""
    return int(text) if text.isascii() and text.isdecimal() else None


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to another https address."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"refused: redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, timeout: float) -> Any:
    """Open an address; the one place that touches the network."""
    request = urllib.request.Request(url, headers={"User-Agent": "xpnet"})
    return urllib.request.build_opener(_HttpsRedirects).open(request, timeout=timeout)


class _Advance(Protocol):
    def __call__(self, count: int, /) -> object: ...


@contextlib.contextmanager
def _progress(name: str, total: int | None) -> Iterator[_Advance]:
    """Show a bar where somebody is looking and tqdm is installed; yield what moves it on."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield lambda count: None
        return
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        yield lambda count: None
        return
    with tqdm(total=total, desc=name, unit="B", unit_scale=True) as bar:
        yield bar.update
