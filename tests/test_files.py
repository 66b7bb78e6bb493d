"""Writing a file whole or not at all."""

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
