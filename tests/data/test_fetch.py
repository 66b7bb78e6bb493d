"""Finding files, and downloading them: from a server of our own on 127.0.0.1, never from the network."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import threading
import urllib.error

import pytest

from xpnet.data import _download, fetch
from xpnet.errors import DataError

NAME = "train-labels-idx1-ubyte"
CONTENT = gzip.compress(b"\0\0\x08\x01\0\0\0\x05abcde", mtime=0)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for variable in ("XPNET_DATA", "XPNET_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves what the path names: /good/, /wrong/, /short/, /endless/, /announced/, /plain/; else 404."""

    def do_GET(self):
        self.server.paths.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            return
        body = {"good": CONTENT, "short": CONTENT[:-9], "wrong": CONTENT[:-1] + b"?", "plain": CONTENT}.get(kind)
        if body is None and kind not in ("endless", "announced"):
            self.send_error(404)
            return
        self.send_response(200)
        if kind != "plain" and kind != "endless":
            self.send_header("Content-Length", str(10**12 if kind == "announced" else len(CONTENT)))
        self.end_headers()
        try:
            while kind == "endless":
                self.wfile.write(bytes(1 << 16))
            self.wfile.write(body or b"")
        except OSError:
            self.server.broken_off.set()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """Reach a local server under https://mirror/... through the one function that opens addresses."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.paths, server.broken_off = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        real, base = _download._open, f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(_download, "_open", lambda url, timeout: real(url.replace("https://mirror", base), timeout))
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(url, timeout):
        raise AssertionError(f"tried to open {url}")

    monkeypatch.setattr(_download, "_open", refuse)


def fetch_from(*kinds, **options):
    mirrors = [f"https://mirror/{kind}/" for kind in kinds]
    return fetch.find_or_download(NAME, ["mnist", "MNIST/raw"], mirrors, MD5, **options)


def files_below(folder):
    return sorted(os.path.join(base, name) for base, _, names in os.walk(folder) for name in names)


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data/mnist", "data/MNIST/raw", "data", "cache/mnist", "cache/MNIST/raw"])
def test_found_in_every_place(tmp_path, monkeypatch, place, suffix):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    path = tmp_path / place / (NAME + suffix)
    path.parent.mkdir(parents=True)
    path.touch()
    assert fetch_from("good") == path


@pytest.mark.usefixtures("no_network")
def test_order_of_the_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    paths = [
        tmp_path / place / name
        for place in ("data/mnist", "data/MNIST/raw", "data", "cache/mnist")
        for name in (NAME, NAME + ".gz")
    ]
    for path in reversed(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert fetch_from("good") == path


@pytest.mark.usefixtures("no_network")
def test_root_overrides_and_never_downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAME).touch()
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="nothing is downloaded where root is given"):
        fetch_from("good", root=tmp_path / "mine")
    (tmp_path / "mine" / NAME).touch()
    assert fetch_from("good", root=str(tmp_path / "mine")) == tmp_path / "mine" / NAME


@pytest.mark.usefixtures("no_network")
def test_loose_files_only_where_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    (tmp_path / NAME).touch()
    assert fetch.find(NAME, ["mnist"]) == tmp_path / NAME
    assert fetch.find(NAME, ["mnist"], loose=False) is None


def test_a_folder_of_that_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    (tmp_path / NAME).mkdir()
    assert fetch.find(NAME, ["mnist"]) is None


def test_cache_folder(tmp_path, monkeypatch):
    assert fetch.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("XPNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch.cache_folder() == tmp_path / "xdg" / "xpnet"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert fetch.cache_folder() == tmp_path / "home" / ".cache" / "xpnet"


# --- downloading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["good", "plain"])
def test_download(tmp_path, server, kind):
    path = fetch_from(kind)
    assert path == tmp_path / "cache" / "mnist" / f"{NAME}.gz"
    assert path.read_bytes() == CONTENT
    assert files_below(tmp_path) == [str(path)]
    assert fetch_from(kind) == path
    assert server.paths == [f"/{kind}/{NAME}.gz"]  # the second time from the cache


@pytest.mark.parametrize("bad", ["missing", "wrong", "short", "announced", "redirect"])
def test_the_next_mirror_helps(tmp_path, server, bad):
    assert fetch_from(bad, "good").read_bytes() == CONTENT
    assert server.paths == [f"/{bad}/{NAME}.gz", f"/good/{NAME}.gz"]
    assert len(files_below(tmp_path)) == 1


def test_all_mirrors_fail(tmp_path, monkeypatch, server):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        fetch_from("missing", "wrong", "short", "announced", "redirect")
    message = str(caught.value)
    *places, last = ("data/mnist", "data/MNIST/raw", "data", "cache/mnist", "cache/MNIST/raw")
    assert "".join(f"  {tmp_path / place},\n" for place in places) + f"  {tmp_path / last}.\n" in message
    for failure in (
        f"https://mirror/missing/{NAME}.gz: HTTP 404 Not Found",
        f"https://mirror/wrong/{NAME}.gz: wrong checksum: MD5 ",
        f"expected {MD5}",
        f"broke off after {len(CONTENT) - 9} of {len(CONTENT)} bytes",
        "refused: 1000000000000 bytes announced",
        "refused: redirected to http://127.0.0.1:9/elsewhere",
        f"put this file and the others of the data set (gzipped or not) into {tmp_path / 'data' / 'mnist'}",
        f"(it is now {str(tmp_path / 'data')!r})",
    ):
        assert failure in message
    assert files_below(tmp_path) == []


def test_an_endless_stream_is_broken_off(tmp_path, server):
    with pytest.raises(DataError, match="more than the limit of 1000000 bytes"):
        fetch_from("endless", max_bytes=1_000_000)
    assert server.broken_off.wait(60)
    assert files_below(tmp_path) == []


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("address", ["http://mirror/good", "ftp://mirror", "file:///etc", "/etc"])
def test_only_https(tmp_path, address):
    with pytest.raises(DataError, match="refused: downloads go over https only"):
        fetch.find_or_download(NAME, ["mnist"], [address], MD5)
    assert files_below(tmp_path) == []


def test_a_redirection_to_https_is_followed():
    from urllib.request import Request

    handler, old = _download._HttpsRedirects(), Request("https://mirror/a")
    new = handler.redirect_request(old, io.BytesIO(), 302, "Found", {}, "https://other/a")
    assert new.full_url == "https://other/a"
    with pytest.raises(urllib.error.URLError, match="not https"):
        handler.redirect_request(old, io.BytesIO(), 302, "Found", {}, "http://other/a")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline(monkeypatch, value):
    monkeypatch.setenv("XPNET_OFFLINE", value)
    with pytest.raises(DataError, match="XPNET_OFFLINE is set"):
        fetch_from("good")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("value", ["0", "", "false"])
def test_not_offline(monkeypatch, value):
    monkeypatch.setenv("XPNET_OFFLINE", value)
    assert fetch_from("good").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interruption_leaves_nothing(tmp_path, monkeypatch, error):
    class Response(io.BytesIO):
        headers = {}  # noqa: RUF012

        def read(self, size=-1):
            if self.tell():
                assert any(path.endswith(".part") for path in files_below(tmp_path))
                raise error
            return super().read(10)

    response = Response(CONTENT)
    monkeypatch.setattr(_download, "_open", lambda url, timeout: response)
    with pytest.raises(error):
        fetch_from("good", "good")
    assert files_below(tmp_path) == []
    assert response.closed


@pytest.mark.usefixtures("server")
def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cache.*exists|exists.*cache|Not a directory"):
        fetch_from("good")


@pytest.mark.usefixtures("server")
def test_progress_bar_only_on_a_terminal(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    fetch_from("good")
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    os.unlink(fetch_from("good"))
    fetch_from("good")
    assert "100%" in terminal.getvalue()


@pytest.mark.usefixtures("server")
def test_a_terminal_without_tqdm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert fetch_from("good").read_bytes() == CONTENT
