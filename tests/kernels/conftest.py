"""The kernels for CuPy, run on the CPU from their CUDA sources."""

from __future__ import annotations

import pytest

from tests.kernels.emulated_cupy import Emulator, folder_of_kernels, installed
from xpnet.kernels import table


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    return Emulator(folder_of_kernels(tmp_path_factory))


@pytest.fixture(scope="module")
def own(emulator):
    """The kernels for CuPy by name."""
    with installed(emulator) as kernels:
        yield kernels


@pytest.fixture
def on_numpy(own, monkeypatch):
    """NumPy's arrays are worked on by the kernels for CuPy."""
    mine = {("numpy", name): function for name, function in own.items()}
    others = {key: f for key, f in table._TABLE.items() if key[0] not in ("numpy", "compiled")}
    monkeypatch.setattr(table, "_TABLE", others | mine)
