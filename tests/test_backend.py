"""The selector: choosing a backend, every way that can fail, and how the choice is seen across blocks and threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import types

import numpy as np
import pytest

from xpnet import backend
from xpnet.backend import BackendUnavailableError


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """No environment, nothing selected, and whatever a test registers is forgotten."""
    for variable in ("XPNET_BACKEND", "XPNET_DTYPE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(backend.selection, "LOADERS", dict(backend.selection.LOADERS))
    monkeypatch.setattr(backend.namespaces, "_NAMESPACES", dict(backend.namespaces._NAMESPACES))


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what makes `import cupy` raise ModuleNotFoundError


# --- names, devices, types -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nope", "Numpy", " numpy", "numpy,cupy", "auto:0", "nope:1", ":"])
def test_unknown_name_lists_the_valid_ones(name):
    message = r"no backend '.*'.* are auto, numpy, cupy, torch, array_api_strict.*XPNET_BACKEND or backend\.use"
    with pytest.raises(BackendUnavailableError, match=message):
        backend.use(name)


@pytest.mark.parametrize(
    "spec, library, message",
    [
        ("numpy:1", "numpy", "numpy has no device '1'; write XPNET_BACKEND=numpy"),
        ("array_api_strict:nope", "array_api_strict", "no device 'nope'; choose from CPU_DEVICE, device1, device2"),
        ("torch:nope", "torch", r"torch .* cannot use device 'nope' \(.*\); write torch, torch:cuda"),
        ("numpy:", "numpy", "backend 'numpy:' names no device after the colon; write 'numpy' for the default"),
        (
            "torch:cuda:",
            "torch",
            "backend 'torch:cuda:' names no device after the colon; write 'torch' for the default",
        ),
    ],
)
def test_bad_devices(spec, library, message):
    pytest.importorskip(library)
    with pytest.raises(BackendUnavailableError, match=message):
        backend.use(spec)


def test_torch_on_a_gpu_that_is_not_there():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        BackendUnavailableError, match=r"torch .* cannot use device 'cuda' \(.*\); write torch, torch:cuda"
    ):
        backend.use("torch:cuda")


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_library_not_installed(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        BackendUnavailableError, match=rf"backend '{library}' cannot be used: .* is not installed; pip install"
    ):
        backend.use(library)


@pytest.mark.parametrize(
    "spec", ["numpy:cpu", "array_api_strict:device2", "array_api_strict:CPU_DEVICE", "torch:cpu:0"]
)
def test_device_of_new_arrays_equals_the_chosen_one(spec):
    pytest.importorskip(spec.partition(":")[0])
    chosen = backend.use(spec)
    assert chosen.name == spec
    assert chosen.device is None or backend.device_of(backend.asarray([1.0])) == chosen.device


def test_environment(monkeypatch):
    pytest.importorskip("array_api_strict")
    monkeypatch.setenv("XPNET_BACKEND", "array_api_strict:device1")
    monkeypatch.setenv("XPNET_DTYPE", "float64")
    chosen = backend.get()
    assert (chosen.name, str(chosen.device)) == ("array_api_strict:device1", "array_api_strict.Device('device1')")
    assert backend.dtype_name(chosen.dtype) == "float64"
    assert backend.get() is chosen
    assert backend.use("numpy", dtype="float32").dtype == np.float32  # an argument wins over the environment
    assert backend.use("numpy").dtype == np.float64


@pytest.mark.parametrize("variable", ["XPNET_BACKEND", "XPNET_DTYPE"])
@pytest.mark.usefixtures("no_cupy")
def test_an_empty_variable_is_none(monkeypatch, variable):
    monkeypatch.setenv(variable, "")
    assert (backend.get().name, backend.get().dtype) == ("numpy", np.float32)


def test_wrong_values_in_the_environment(monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", "jaxx")
    with pytest.raises(BackendUnavailableError, match="no backend 'jaxx'; there are auto, numpy"):
        backend.get()
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    monkeypatch.setenv("XPNET_DTYPE", "float")
    with pytest.raises(
        BackendUnavailableError, match=r"no float type 'float'; did you mean 'float32'\? There are .*, by XPNET_DTYPE"
    ):
        backend.get()
    monkeypatch.setenv("XPNET_DTYPE", "bfloat16")
    with pytest.raises(
        BackendUnavailableError,
        match=r"numpy has no bfloat16; take float32 \(by XPNET_DTYPE or dtype=...\) or a backend that",
    ):
        backend.get()
    with pytest.raises(BackendUnavailableError, match="no float type 'int8'"):
        backend.use("numpy", dtype="int8")


# --- the selection -------------------------------------------------------------------------------


def test_failed_use_keeps_the_former_selection():
    before = backend.use("numpy", dtype="float64")
    for name in ("nope", "numpy:9"):
        with pytest.raises(BackendUnavailableError):
            backend.use(name)
        assert backend.get() is before
        with pytest.raises(BackendUnavailableError), backend.using(name):
            pass
        assert backend.get() is before


def test_using_nests_and_restores():
    backend.use("numpy")
    with backend.using("numpy", dtype="float64") as outer:
        assert backend.get() is outer
        with backend.using("numpy", dtype="float16") as inner:
            assert backend.get() is inner
        assert backend.get() is outer
    assert backend.get().dtype == np.float32


def test_an_error_inside_using_restores():
    def fail():
        with backend.using("numpy", dtype="float64"):
            raise ZeroDivisionError

    before = backend.use("numpy")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert backend.get() is before


def test_use_inside_using_is_refused():
    with backend.using("numpy"):
        message = (
            r"backend\.use\('numpy'\) inside `with backend\.using\('numpy'\)` would have no effect .* nest another"
        )
        with pytest.raises(RuntimeError, match=message):
            backend.use("numpy")
    assert backend.use("numpy", dtype="float64") is backend.get()


def test_threads_see_use_but_not_using():
    seen = []

    def look():
        seen.append(backend.get())

    def in_thread(function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    selected = backend.use("numpy", dtype="float64")
    with backend.using("numpy", dtype="float16"):
        in_thread(look)
    in_thread(lambda: backend.use("numpy", dtype="float32"))
    look()
    assert seen[0] is selected
    assert seen[1].dtype == np.float32


# --- available, register -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("driver on fire"), OSError(), ImportError("no"), SyntaxError("what")])
def test_available_never_raises(error):
    def loader(device):
        raise error

    backend.register("burning", loader)
    found = {status.name: status for status in backend.available()}
    assert list(found)[:4] == ["numpy", "cupy", "torch", "array_api_strict"]
    assert found["numpy"] == ("numpy", True, f"{np.__version__} on cpu")
    assert found["burning"].usable is False
    assert found["burning"].reason == (str(error) or type(error).__name__)
    with pytest.raises(BackendUnavailableError, match=rf"backend 'burning' cannot be used: {type(error).__name__}: "):
        backend.use("burning")


def wrapper_namespace(around, name="wrapped"):
    """A third party's namespace: some other library's functions under its own name."""
    xp = types.ModuleType(name)
    for function in ("asarray", "empty", "zeros", "float32", "float64", "int64"):
        setattr(xp, function, getattr(around, function))
    return xp


def test_a_registered_backend(monkeypatch):
    asked = []
    xp = wrapper_namespace(np)
    backend.register("mine", lambda device: (asked.append(device), (xp, None))[1])
    assert asked == []
    assert backend.use("mine").xp is xp
    assert backend.use("mine:left:2").name == "mine:left:2"
    assert asked == [None, "left:2"]
    assert isinstance(backend.asarray([1, 2.5]), np.ndarray)
    monkeypatch.setattr(backend.selection, "_selected", None)
    monkeypatch.setenv("XPNET_BACKEND", "mine")
    assert backend.get().name == "mine"
    with pytest.raises(BackendUnavailableError, match="there are auto, numpy, cupy, torch, array_api_strict, mine"):
        backend.use("yours")


def test_a_wrapper_does_not_change_whose_arrays_are_whose(monkeypatch):
    """Even where nobody has met an array of the library before."""
    strict = pytest.importorskip("array_api_strict")
    monkeypatch.setattr(backend.namespaces, "_NAMESPACES", {})
    backend.register("mine", lambda device: (wrapper_namespace(strict), None))
    with backend.using("mine"):
        assert backend.array_namespace(backend.asarray([1.0])) is strict


def test_arrays_that_nobody_knows_belong_to_the_registered_namespace():
    class Own:
        dtype = np.dtype("float32")

    xp = types.ModuleType("own")
    xp.empty, xp.float32 = lambda n: Own(), np.float32
    backend.register("own", lambda device: (xp, None))
    with pytest.raises(TypeError, match="array_namespace: expected an array, got Own"):
        backend.array_namespace(Own())
    with backend.using("own"):
        assert backend.array_namespace(Own()) is xp


@pytest.mark.parametrize("returned", [None, (None, None), 3])
def test_a_loader_that_returns_nonsense(returned):
    backend.register("nonsense", lambda device: returned)
    with pytest.raises(
        BackendUnavailableError, match=r"backend 'nonsense' cannot be used: (Type|Attribute)Error: .*repair"
    ):
        backend.use("nonsense")


@pytest.mark.parametrize("name", ["auto", "my-numpy", "a:b", "", "1st"])
def test_bad_names_for_register(name):
    with pytest.raises(ValueError, match=rf"backend\.register: '{name}' is no usable name; take a Python identifier"):
        backend.register(name, lambda device: (np, None))


@pytest.mark.parametrize("name", ["numpy", "cupy", "torch", "array_api_strict"])
def test_built_in_names_cannot_be_taken(name):
    with pytest.raises(ValueError, match=rf"backend\.register: '{name}' is built in; choose another name"):
        backend.register(name, lambda device: (np, None))


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["xpnet", "xpnet.layers", "xpnet.functional, xpnet.losses, xpnet.optim"])
def test_import_loads_no_library_but_numpy(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'cupy', 'matplotlib', 'sklearn'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
