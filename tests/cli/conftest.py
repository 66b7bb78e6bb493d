"""A run to look at, and a folder to be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from xpnet.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    wanted = ["--model", "tiny_convnet", "--data", "digits", "--optimizer", "sgd", "--lr", "0.1", "--backend", "numpy"]
    assert main(["train", *wanted, "--epochs", "4", "--validation", "0.2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_OFFLINE", "1")
    monkeypatch.delenv("XPNET_BACKEND", raising=False)
