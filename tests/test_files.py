"""Writing a file whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from xpnet.files import atomic_write


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "x.json"
    with pytest.raises(FileNotFoundError, match=r"absent.x\.json.$"), atomic_write(path):
        pass


def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"former")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"former")]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "folder" / "x", tmp_path / "link"
    file.parent.mkdir()
    file.write_bytes(b"former")
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("links cannot be made here")
    with atomic_write(link) as opened:
        opened.write(b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert [p.name for p in file.parent.iterdir()] == ["x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a writer would wait for one
    try:
        with atomic_write(path) as file:
            file.write(b"abc")
        assert os.read(reader, 10) == b"abc"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
