"""What tests of recorded steps share: the stand-in for CuPy, and images."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.captured_cupy import Capturing
from tests.kernels.emulated_cupy import compiler, folder_of_kernels
from tests.training.captured_runs import IMAGES


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C++ compiler, or not Linux")
    return Capturing(folder_of_kernels(tmp_path_factory))


@pytest.fixture
def data(rng):
    """14 images: batches of four, and a last one of two."""
    return rng.standard_normal((14, *IMAGES)).astype(np.float32), rng.integers(0, 3, 14)
