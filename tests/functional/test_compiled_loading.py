"""When Numba's machine code is loaded, kept and compiled anew, and what happens where it cannot be."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import signal
import subprocess
import sys

import numpy as np
import pytest

from xpnet import config
from xpnet.functional import conv2d_forward
from xpnet.kernels import find
from xpnet.kernels.compiled import loader

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


@needs_numba
def test_what_fails_to_compile_is_said_and_done_by_the_others(monkeypatch, caplog, rng):
    def broken(dtype):
        raise RuntimeError("no such processor")

    broken.dtypes = "fd"
    monkeypatch.setattr(loader, "_try", loader._try.__wrapped__)
    monkeypatch.setattr(loader.module("_conv_loops"), "convolve", broken)
    x, W = rng.standard_normal((64, 4, 12, 12)), rng.standard_normal((8, 4, 3, 3))
    with caplog.at_level(logging.WARNING, logger="xpnet"):
        y = conv2d_forward(x, W)[0]
    assert "convolve compiled by Numba is not used: RuntimeError: no such processor" in caplog.text
    with config.using(compiled="off"):
        np.testing.assert_array_equal(y, conv2d_forward(x, W)[0])


def test_off_and_agnostic_leave_the_compiled_kernels_out():
    with config.using(compiled="off"):
        assert find("conv2d_forward", np).__module__ == "xpnet.kernels.numpy.conv"
    with config.using(kernels="agnostic"):
        assert find("conv2d_forward", np).__module__ == "xpnet.kernels.agnostic.conv"


@needs_numba
def test_numba_is_imported_for_work_worth_it_and_not_before():
    code = (
        "import sys, numpy as np, xpnet\n"
        "from xpnet.functional import conv2d_forward\n"
        "conv2d_forward(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))\n"
        "assert 'numba' not in sys.modules\n"
        "conv2d_forward(np.ones((64, 4, 12, 12)), np.ones((8, 4, 3, 3)))\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def kernel():
    """Return a function that makes a small kernel anew, as a new process would."""
    compile_module = loader.module("_compile")
    return lambda: compile_module.Kernel(doubled, lambda array: (array,))


def doubled(x):
    for i in range(x.size):
        x[i] *= 2.0


def runs(made) -> bool:
    x = np.ones(3, np.float32)
    made(x)
    return x.tolist() == [2.0, 2.0, 2.0]


@needs_numba
def test_machine_code_is_kept_until_a_source_changes(tmp_path, monkeypatch, kernel):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    hits = []
    for stamp in (1, 1, 2):
        monkeypatch.setattr(loader.module("_compile"), "_stamp", lambda stamp=stamp: stamp)
        made = kernel()(np.dtype("float32"))
        assert runs(made)
        hits.append(sum(made.stats.cache_hits.values()))
    assert hits == [0, 1, 0]


@needs_numba
def test_ctrl_c_waits_until_a_kernel_is_compiled():
    """LLVM's calls back into Python lose exceptions."""

    def signature(array):
        signal.raise_signal(signal.SIGINT)
        return (array,)

    kernel = loader.module("_compile").Kernel(doubled, signature)
    with pytest.raises(KeyboardInterrupt):
        kernel(np.dtype("float64"))
    x = np.ones(3)
    kernel(np.dtype("float64"))(x)  # it was finished: no second Ctrl-C
    np.testing.assert_array_equal(x, 2.0)


def test_ctrl_c_waits_until_numba_is_imported(monkeypatch):
    imported = []

    def import_module(name):
        signal.raise_signal(signal.SIGINT)
        imported.append(name)

    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", import_module)
        with pytest.raises(KeyboardInterrupt):
            loader.module("_none")
    assert imported == ["xpnet.kernels.compiled._none"]


@needs_numba
def test_machine_code_that_cannot_be_kept_is_no_error(monkeypatch, kernel):
    """A package folder and a home that are both read-only, then a disk that is full."""
    caching = importlib.import_module("numba.core.caching")
    with monkeypatch.context() as patch:
        patch.setattr(caching.CacheImpl, "_locator_classes", [])
        assert runs(kernel()(np.dtype("float32")))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *arguments: None)
    assert runs(kernel()(np.dtype("float32")))
