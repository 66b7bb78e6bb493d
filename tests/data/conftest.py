"""Folders of data for tests that load data sets."""

import pytest

from xpnet.data import _download


@pytest.fixture
def nothing_found(tmp_path, monkeypatch):
    """Nothing but what a test puts there can be found, and nothing is downloaded."""

    def refuse(url, timeout):
        raise OSError("no network in tests")

    monkeypatch.setattr(_download, "_open", refuse)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XPNET_OFFLINE", raising=False)
