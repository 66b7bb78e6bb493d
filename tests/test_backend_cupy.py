"""CuPy in every state it can be in, and what ``auto`` makes of it; a fake in its place, so no GPU is needed."""

from __future__ import annotations

import ast
import contextlib
import importlib
import logging
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from xpnet import backend, config
from xpnet.backend import BackendUnavailableError, limits

INSTALL = r"pip install 'xpnet\[cuda13\]' \(or 'xpnet\[cuda12\]' for a CUDA 12 driver\)"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """No environment, nothing selected, and whatever a test registers is forgotten."""
    for variable in ("XPNET_BACKEND", "XPNET_DTYPE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(limits, "_in_use", [])
    monkeypatch.setattr(backend.selection, "LOADERS", dict(backend.selection.LOADERS))
    monkeypatch.setattr(backend.namespaces, "_NAMESPACES", dict(backend.namespaces._NAMESPACES))


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what makes `import cupy` raise ModuleNotFoundError


class Here(threading.local):
    """The GPU that a thread works on."""

    current = 0


here = Here()


class FakeDevice:
    def __init__(self, index=None):
        self.index, self.former = here.current if index is None else index, []

    def use(self):
        here.current = self.index

    def __enter__(self):
        self.former.append(here.current)
        self.use()

    def __exit__(self, *_):
        here.current = self.former.pop()

    def __repr__(self):
        return f"<CUDA Device {self.index}>"


def fake_cupy(monkeypatch, *, usable, driver=13010, count=1):
    """A stand-in for CuPy: enough of it for the selector, with NumPy in place of its arrays."""
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "14.0.1"
    cupy.is_available = lambda: usable
    runtime = types.SimpleNamespace(driverGetVersion=lambda: driver, getDeviceCount=lambda: count)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=FakeDevice)
    cupy.compute_types = {"float32": 1}
    cupy._core = types.SimpleNamespace(set_compute_type=cupy.compute_types.__setitem__)
    namespace = types.ModuleType("array_api_compat.cupy")
    namespace.empty, namespace.finfo = np.empty, np.finfo
    namespace.float16, namespace.float32, namespace.float64 = np.float16, np.float32, np.float64
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    monkeypatch.setattr("array_api_compat.cupy", namespace, raising=False)
    return namespace


# --- CuPy in every state -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_cupy")
def test_cupy_not_installed():
    with pytest.raises(
        BackendUnavailableError, match=f"backend 'cupy' cannot be used: CuPy is not installed; {INSTALL}"
    ):
        backend.use("cupy")


def test_cupy_broken(monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "cupy":
                raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BackendUnavailableError, match=rf"CuPy is installed but broken: libcudart.*file; {INSTALL}"):
        backend.use("cupy")
    with pytest.raises(BackendUnavailableError, match="broken"):
        backend.use("cupy:1")


def test_a_module_that_cupy_lacks_is_not_taken_for_cupy(monkeypatch):
    class Lacking:
        def find_spec(self, name, *_):
            if name == "cupy":
                raise ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    with pytest.raises(BackendUnavailableError, match="ModuleNotFoundError: No module named 'fastrlock'; repair"):
        backend.use("cupy")


def test_cupy_without_a_driver(monkeypatch):
    fake_cupy(monkeypatch, usable=False, driver=0)
    with pytest.raises(
        BackendUnavailableError, match=r"CuPy 14.0.1 is installed, but no NVIDIA driver .*BACKEND=numpy"
    ):
        backend.use("cupy")


def test_cupy_without_a_gpu(monkeypatch):
    fake_cupy(monkeypatch, usable=False, driver=12080)
    with pytest.raises(
        BackendUnavailableError, match=r"the driver \(CUDA 12\.8\) shows no GPU: .*CUDA_VISIBLE_DEVICES"
    ):
        backend.use("cupy")


def test_cupy_usable(monkeypatch):
    namespace = fake_cupy(monkeypatch, usable=True, count=2)
    assert backend.use("cupy").xp is namespace
    for spec, index in (("cupy", 0), ("cupy:0", 0), ("cupy:1", 1)):
        chosen = backend.use(spec)
        assert (chosen.name, chosen.device.index, chosen.dtype) == (spec, index, np.float32)
    status = {s.name: s for s in backend.available()}["cupy"]
    assert status.usable
    assert "<CUDA Device 0>" in status.reason


def test_a_chosen_gpu_is_the_one_that_this_thread_works_on(monkeypatch):
    fake_cupy(monkeypatch, usable=True, count=3)
    here.current = 0
    backend.use("cupy:1")
    assert here.current == 1
    with backend.using("cupy:2"):
        assert here.current == 2
        with backend.using("numpy"):
            backend.available()
        assert here.current == 2
    assert here.current == 1


def test_a_block_leaves_the_gpu_as_it_was(monkeypatch):
    fake_cupy(monkeypatch, usable=True, count=3)
    here.current = 2
    backend.use("numpy")
    with backend.using("cupy:1"), pytest.raises(BackendUnavailableError), backend.using("cupy:3"):
        pass
    assert here.current == 2


def in_a_thread(*work):
    """The results of functions called one after the other in a new thread."""
    results = []
    thread = threading.Thread(target=lambda: results.extend(function() for function in work))
    thread.start()
    thread.join()
    return results


def test_the_selection_takes_its_gpu_to_every_thread(monkeypatch):
    fake_cupy(monkeypatch, usable=True, count=3)
    backend.use("cupy:1")

    def current():
        return here.current

    chosen, *seen = in_a_thread(backend.get, current, FakeDevice(2).use, backend.get, current)
    assert chosen.name == "cupy:1"
    assert seen[0] == 1
    assert seen[-1] == 2  # what the thread asked of CuPy itself is left to it


def test_a_carried_block_keeps_its_gpu_when_the_backend_is_asked_for(monkeypatch):
    fake_cupy(monkeypatch, usable=True, count=3)
    sys.modules["cupy"].cuda.get_current_stream = contextlib.nullcontext
    backend.use("cupy:1")
    with backend.using("cupy:2") as chosen:
        block = backend.carry(chosen)

        def inside():
            with block():
                return backend.get().name, here.current

        assert in_a_thread(inside, backend.get, lambda: here.current)[::2] == [("cupy:2", 2), 1]


def test_tf32_is_off_unless_asked_for(monkeypatch):
    """Before CuPy's own CUPY_TF32, and whether it is set before or after the backend is chosen."""
    fake_cupy(monkeypatch, usable=True)
    types_ = sys.modules["cupy"].compute_types
    types_["float32"] = 7  # as CUPY_TF32=1 would have it
    backend.use("cupy")
    assert types_ == {"float32": 1}
    with config.using(allow_tf32=True):
        assert types_ == {"float32": 7}
        backend.use("cupy")
        assert types_ == {"float32": 7}
    assert types_ == {"float32": 1}


def test_the_numbers_of_compute_types_are_those_of_cupy():
    linalg = pytest.importorskip("cupy._core._routines_linalg", reason="CuPy is not installed", exc_type=ImportError)
    assert (linalg.COMPUTE_TYPE_DEFAULT, linalg.COMPUTE_TYPE_TF32) == (1, 7)


@pytest.mark.parametrize("device", ["7", "2", "-1", "x", "1.0"])
def test_cupy_device_that_is_not_there(monkeypatch, device):
    fake_cupy(monkeypatch, usable=True, count=2)
    with pytest.raises(
        BackendUnavailableError, match=rf"cupy has no device '{device}'; 2 found, so write cupy:0 to cupy:1$"
    ):
        backend.use(f"cupy:{device}")
    fake_cupy(monkeypatch, usable=True, count=1)
    with pytest.raises(BackendUnavailableError, match=r"1 found, so write cupy:0$"):
        backend.use("cupy:1")


# --- bfloat16 ------------------------------------------------------------------------------------


def with_bfloat16(monkeypatch, *, types_=("ee->e", "EE->E", "ff->f"), runtime=13000):
    """The fake CuPy with what is asked about bfloat16."""
    fake_cupy(monkeypatch, usable=True)
    cupy = sys.modules["cupy"]
    cupy.add = types.SimpleNamespace(types=types_)
    cupy.cuda.get_local_runtime_version = lambda: runtime


def test_bfloat16_is_the_type_of_ml_dtypes(monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with_bfloat16(monkeypatch)
    monkeypatch.setenv("XPNET_DTYPE", "bfloat16")
    chosen = backend.use("cupy")
    assert isinstance(chosen.dtype, np.dtype)
    assert chosen.dtype == ml_dtypes.bfloat16
    assert backend.dtype_name(chosen.dtype) == "bfloat16"
    assert backend.is_half(chosen.xp, chosen.dtype)
    assert backend.wide_dtype(chosen.xp, chosen.dtype) == np.float32
    found = backend.finfo(chosen.xp, chosen.dtype)
    assert (found.bits, float(found.max), float(found.smallest_normal)) == (16, (2 - 2.0**-7) * 2.0**127, 2.0**-126)


def test_bfloat16_without_ml_dtypes(monkeypatch):
    with_bfloat16(monkeypatch)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        BackendUnavailableError, match=r"^CuPy has bfloat16 where ml_dtypes is .*; pip install 'xpnet\["
    ):
        backend.use("cupy", dtype="bfloat16")
    assert backend.use("cupy", dtype="float16").dtype == np.float16


def test_bfloat16_with_what_is_too_old(monkeypatch):
    pytest.importorskip("ml_dtypes")
    with_bfloat16(monkeypatch, types_=("ee->e", "ff->f"))
    with pytest.raises(BackendUnavailableError, match=r"^CuPy 14.0.1 does not compute in bfloat16 with NumPy .*; pip"):
        backend.use("cupy", dtype="bfloat16")
    with_bfloat16(monkeypatch, runtime=12010)
    with pytest.raises(BackendUnavailableError, match=r"^CuPy has bfloat16 from CUDA 12.2 on, this is 12.1; pip"):
        backend.use("cupy", dtype="bfloat16")


def test_cupy_gives_bfloat16_the_types_that_the_stand_in_gives():
    """Asked of CuPy's dispatch, which needs no GPU: what tests/kernels/fake_cupy.py takes for granted."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)

    def result(ufunc, types_, weak=None):
        (found,) = ufunc._ops._guess_routine_from_in_types(types_, weak).out_types
        return found

    # what CuPy takes a value for, as which Python type it yields to arrays, and the value
    others = [
        (np.dtype("f8"), float, 2.0),
        (np.dtype("i8"), int, 2),
        (np.dtype("f4"), False, np.float32(2)),
        (bfloat16, False, np.ones(2, bfloat16)),
    ]
    for name in ("add", "subtract", "multiply", "true_divide", "maximum", "minimum", "power", "greater", "equal"):
        for kind, weak, value in others:
            expected = getattr(np, name)(np.ones(2, bfloat16), value).dtype
            assert result(getattr(cupy, name), (bfloat16, kind), (False, weak)) == expected, (name, kind)
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "absolute", "negative", "sign", "square", "floor"):
        assert result(getattr(cupy, name), (bfloat16,)) == bfloat16, name
    search = importlib.import_module("cupy._sorting.search")
    assert result(search._where_ufunc, (np.dtype(bool), bfloat16, bfloat16)) == np.float32
    assert result(cupy._core._routines_math.clip, (bfloat16,) * 3) == np.float32


# --- auto ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_cupy")
def test_auto_is_numpy_without_a_gpu(caplog):
    with caplog.at_level(logging.INFO, "xpnet"):
        chosen = backend.use("auto")
    assert chosen.name == "numpy"
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("backend auto: numpy (backend 'cupy' cannot be used: CuPy is not installed;")


def test_auto_is_cupy_with_a_gpu(monkeypatch, caplog):
    namespace = fake_cupy(monkeypatch, usable=True)
    with caplog.at_level(logging.INFO, "xpnet"):
        chosen = backend.get()
    assert (chosen.name, chosen.xp) == ("cupy", namespace)
    assert [r.getMessage() for r in caplog.records] == ["backend auto: cupy (a usable CUDA GPU was found)"]


@pytest.mark.usefixtures("no_cupy")
def test_an_explicit_name_logs_nothing_and_never_falls_back(monkeypatch, caplog):
    with caplog.at_level(logging.DEBUG, "xpnet"):
        backend.use("numpy")
        monkeypatch.setattr(backend.selection, "_selected", None)
        monkeypatch.setenv("XPNET_BACKEND", "cupy")
        for _ in range(2):  # nor the second time
            with pytest.raises(BackendUnavailableError, match="CuPy is not installed"):
                backend.get()
    assert not caplog.records


# --- names ---------------------------------------------------------------------------------------

KERNELS = Path(backend.__file__).parents[1] / "kernels" / "cupy"
FILES = sorted([*KERNELS.glob("*.py"), *Path(backend.__file__).parent.glob("*.py")])


def names_used(file):
    """Every dotted name that begins with cupy or cupyx, or that is imported from them."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("cupy", "cupyx"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in ("cupy", "cupyx"):
            yield ".".join([node.id, *reversed(parts)])


def test_every_name_of_cupy_that_is_used_exists():
    """CuPy can be imported without a driver."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    used = {name for file in FILES for name in names_used(file)}
    assert {
        "cupyx.empty_pinned",
        "cupy.cuda.Event",
        "cupy.RawKernel",
        "cupy.cuda.using_allocator",
        "cupyx.scipy.special.erf",
        "cupy.cuda.runtime.getDeviceCount",
    } <= used
    modules = {"cupy": cupy, "cupyx": importlib.import_module("cupyx.scipy.special") and sys.modules["cupyx"]}
    missing = []
    for name in sorted(used):
        value = modules[name.partition(".")[0]]
        for part in name.split(".")[1:]:
            if not hasattr(value, part) and isinstance(value, types.ModuleType):
                with contextlib.suppress(ImportError), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # cupy.cuda.nccl: there is no NCCL
                    importlib.import_module(f"{value.__name__}.{part}")
            value = getattr(value, part, None)
        if value is None:
            missing.append(name)
    assert not missing


def test_kernels_can_be_imported_without_a_gpu():
    """Compiling waits for the first launch, so importing asks nothing of a driver."""
    pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    code = "from xpnet.kernels import load, registered; load('cupy'); assert ('cupy', 'conv2d_forward') in registered()"
    subprocess.run([sys.executable, "-c", code], check=True)
