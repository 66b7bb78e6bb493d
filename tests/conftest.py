"""The `xp` fixture: every test that asks for it runs once on each array library found.

``XPNET_TEST_BACKENDS=numpy,cupy`` chooses; a name there that is unknown or cannot be used is an error,
while without it a library that is not installed is left out, and `tests/test_found.py` shows it as a skip with its
reason.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background by a shell: tests of Ctrl-C, here and in child processes, need it to be heard
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    # several workers with as many BLAS threads each would spin against each other; before NumPy loads
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import hypothesis
import numpy as np
import pytest

from xpnet import backend

# Examples are those of every run before, however slow the machine: a busy one is no error.
hypothesis.settings.register_profile(
    "xpnet",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("xpnet")

# name -> what `backend.use` is given; the second device of array_api_strict refuses implicit copies to
# the host, which makes it the best stand-in for a GPU
VARIANTS = {
    "numpy": "numpy",
    "numpy-readonly": "numpy",
    "array_api_strict": "array_api_strict",
    "array_api_strict-device1": "array_api_strict:device1",
    "torch": "torch",
    "cupy": "cupy",
}


class ArrayLibrary:
    """An array library under test: its namespace, and how to bring arrays there and back."""

    def __init__(self, name: str, chosen: backend.Backend) -> None:
        self.name, self.xp, self.device = name, chosen.xp, chosen.device
        self.backend_name = chosen.name

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """A fresh array of the library; on numpy-readonly, writing to it fails."""
        host = np.array(x, dtype=dtype)
        if self.name == "numpy-readonly":
            host.flags.writeable = False
            return host
        return backend.asarray(host, copy=True)

    def to_numpy(self, x: Any) -> np.ndarray:
        """A NumPy copy of an array that must belong to this library and its device."""
        assert backend.array_namespace(x) is self.xp, f"{type(x)} is no array of {self.name}"
        if self.device is not None:
            assert backend.device_of(x) == self.device
        return np.array(backend.to_numpy(x))

    def __repr__(self) -> str:
        return self.name


@functools.cache
def why_unusable(spec: str) -> str:
    """Return why a backend cannot be used; nothing if it can."""
    try:
        with backend.using(spec):
            return ""
    except backend.BackendUnavailableError as error:
        return str(error)


def _selected() -> list[str]:
    chosen = os.environ.get("XPNET_TEST_BACKENDS")
    if not chosen:
        return [name for name in VARIANTS if not why_unusable(VARIANTS[name])]
    names = []
    for wanted in (n.strip() for n in chosen.split(",") if n.strip()):
        matching = [n for n, spec in VARIANTS.items() if wanted in (n, spec.partition(":")[0])]
        if not matching:
            raise pytest.UsageError(f"XPNET_TEST_BACKENDS: unknown backend {wanted!r}; there are {', '.join(VARIANTS)}")
        names += matching
    return list(dict.fromkeys(names))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Look for no garbage among the tests: with a million objects of theirs, each time would take most of a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    if not os.environ.get("XPNET_TEST_BACKENDS"):
        return
    for name in _selected():
        if why_unusable(VARIANTS[name]):
            raise pytest.UsageError(f"XPNET_TEST_BACKENDS: {why_unusable(VARIANTS[name])}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "xp" in metafunc.fixturenames:
        metafunc.parametrize("xp", _selected(), indirect=True)


@pytest.fixture
def xp(request: pytest.FixtureRequest):
    """One array library; it is also the selected backend while the test runs."""
    name = request.param
    for marker in request.node.iter_markers("skip_backend"):
        if marker.args[0] in (name, VARIANTS[name].partition(":")[0]):
            pytest.skip(marker.kwargs["reason"])
    with backend.using(VARIANTS[name]) as chosen:
        yield ArrayLibrary(name, chosen)


@pytest.fixture
def needs_backend():
    """A function that skips the test, with the reason, where the backend of a name cannot be used."""

    def check(name: str) -> None:
        if why_unusable(name):
            pytest.skip(f"{name}: {why_unusable(name)}")

    return check


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ from test to test and not from run to run."""
    return np.random.default_rng(sum(map(ord, request.node.nodeid)))


@pytest.fixture(autouse=True)
def _fresh_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one selected."""
    monkeypatch.setattr(backend.selection, "_selected", None)
