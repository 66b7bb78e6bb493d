"""Arrays of all libraries: whose they are, where they lie, and moving them on request."""

from __future__ import annotations

import ast
import types
from pathlib import Path

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArrayMismatchError, DTypeError

PLACES = ["numpy", "array_api_strict", "array_api_strict:device1", "torch", "cupy"]


def select(place, dtype=None):
    try:
        return backend.use(place, dtype=dtype)  # conftest.py forgets it again
    except backend.BackendUnavailableError as error:
        pytest.skip(str(error))


def there(place, x):
    """Whether an array lies at a place of the list."""
    with backend.using(place) as chosen:
        same_device = chosen.device is None or backend.device_of(x) == chosen.device
        return backend.array_namespace(x) is chosen.xp and same_device


# --- asarray and to_numpy ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize("source", PLACES)
def test_from_every_library_to_every_other(source, target, dtype):
    host = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    select(source)
    x = backend.asarray(host)
    assert there(source, x)
    select(target)
    y = backend.asarray(x)
    assert there(target, y)
    np.testing.assert_array_equal(backend.to_numpy(y), host, strict=True)
    like = backend.asarray_like(x, backend.asarray([1.5], dtype="float32"))
    assert there(target, like)
    np.testing.assert_array_equal(backend.to_numpy(like), host.astype(np.float32), strict=True)


def lies_oddly():
    base = np.arange(24.0).reshape(2, 3, 4)
    readonly = base.copy()
    readonly.flags.writeable = False
    packed = np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float64)
    return {
        "read-only": readonly,
        "negative strides": base[::-1, :, ::-1],
        "transposed": base.T,
        "strided": base[:, ::2, 1::2],
        "broadcast": np.broadcast_to(base[0], (2, 3, 4)),
        "unaligned": packed,
        "big-endian": base.astype(">f8"),
        "big-endian integers": base.astype(">i2"),
        "0-d": np.array(2.5),
        "empty": np.ones((0, 3)),
    }


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("kind", lies_oddly())
@pytest.mark.parametrize("target", PLACES)
def test_numpy_arrays_that_lie_oddly(target, kind, copy):
    host = lies_oddly()[kind]
    select(target)
    y = backend.asarray(host, copy=copy)
    assert there(target, y)
    native = host.astype(host.dtype.newbyteorder("="))
    np.testing.assert_array_equal(backend.to_numpy(y), native, strict=True)
    z = backend.asarray_like(host, backend.asarray([0.5], dtype="float32"))
    np.testing.assert_array_equal(backend.to_numpy(z), native.astype(np.float32), strict=True)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize("source", PLACES)
def test_copy_is_a_copy(source, target, dtype, shape):
    select(source)
    x = backend.asarray(np.ones(shape))
    select(target)
    y = backend.asarray(x, dtype=dtype, copy=True)
    y[...] = 5.0
    like = backend.asarray_like(x, y)
    like[...] = 7.0
    assert (backend.to_numpy(x) == 1.0).all()
    assert (backend.to_numpy(y) == 5.0).all()


def test_copy_on_the_device_torch_calls_by_two_names():
    """ "cpu:0" is "cpu": a device compared by name would be moved to itself, which copies nothing."""
    torch = pytest.importorskip("torch")
    select("torch:cpu:0")
    x = torch.ones(3)
    backend.asarray(x, copy=True)[...] = 5.0
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_by_default_memory_is_shared_where_it_can_be():
    torch = pytest.importorskip("torch")
    host = np.ones(3)
    select("torch")
    backend.asarray(host)[0] = 5.0
    assert host[0] == 5.0
    x = torch.ones(3)
    backend.to_numpy(x)[0] = 5.0
    assert x[0] == 5.0
    select("numpy")
    assert backend.asarray(host) is host
    assert backend.to_numpy(host) is host


@pytest.mark.parametrize(
    "x, kind",
    [
        (1.5, "float"),
        ([1.0, 2.0], "float"),
        ([[1, 2.5], [3, 4]], "float"),
        (3, "int64"),
        ([1, 2], "int64"),
        (True, "bool"),
        ([True, False], "bool"),
        (np.float64(1.5), "float64"),
        (np.float32(1.5), "float32"),
        (np.int16(3), "int16"),
        (np.ones(2, np.float32), "float32"),
        (range(3), "int64"),
    ],
)
@pytest.mark.parametrize("target", PLACES)
def test_type_of_what_is_made(target, x, kind):
    """Python floats take the backend's float type; arrays and NumPy scalars keep theirs."""
    for dtype in ("float32", "float64"):
        select(target, dtype)
        y = backend.asarray(x)
        assert there(target, y)
        assert backend.dtype_name(y.dtype) == (dtype if kind == "float" else kind)
        np.testing.assert_array_equal(backend.to_numpy(y), np.asarray(x))
    assert backend.dtype_name(backend.asarray([1, 0], dtype="float64").dtype) == "float64"
    xp = backend.get().xp
    assert backend.asarray([1.5, 0.0], dtype=xp.int64).dtype == xp.int64


@pytest.mark.parametrize(
    "x", ["text", ["a", "b"], None, [None, 1], object(), np.array(["a"]), np.array([object()]), {}]
)
@pytest.mark.parametrize("target", PLACES)
def test_what_is_no_number_is_refused(target, x):
    select(target)
    with pytest.raises(DTypeError, match=r"^asarray: expected numbers, got (object|<U\d+) \("):
        backend.asarray(x)


@pytest.mark.parametrize("target", PLACES)
def test_unknown_type_is_refused(target):
    select(target)
    with pytest.raises(DTypeError, match=rf"^asarray: backend '{target}' has no type 'float99'"):
        backend.asarray([1.0], dtype="float99")


def test_bfloat16_comes_to_numpy_as_float32():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.5], dtype=torch.bfloat16, requires_grad=True)
    host = backend.to_numpy(x)
    assert (host.dtype, host.tolist()) == (np.float32, [1.0, 2.5])


@pytest.mark.parametrize("x", [3, 2.5, [1, 2], np.float32(2), True])
def test_to_numpy_takes_python_values(x):
    np.testing.assert_array_equal(backend.to_numpy(x), np.asarray(x), strict=True)


# --- array_namespace -----------------------------------------------------------------------------


@pytest.mark.parametrize("x", [1.0, [1.0], "a", None, object()])
def test_what_is_no_array_has_no_namespace(x):
    message = (
        rf"^array_namespace: expected an array, got {type(x).__name__} \(.*\); make one with xpnet.backend.asarray"
    )
    with pytest.raises(DTypeError, match=message):
        backend.array_namespace(x)
    if x is not None:
        with pytest.raises(DTypeError, match=message):
            backend.array_namespace(np.ones(1), x)


def test_namespace_of_one_library_none_is_skipped():
    import array_api_compat.numpy

    expected = array_api_compat.numpy
    assert backend.array_namespace(np.ones(1), None, np.float32(1.0), None, np.ones(2)) is expected


@pytest.mark.parametrize("other", ["torch", "array_api_strict"])
def test_two_libraries_in_one_call(other):
    select(other)
    message = (
        rf"^array_namespace: arrays of two libraries in one call: numpy and {other}; move one with xpnet.backend.asa"
    )
    with pytest.raises(ArrayMismatchError, match=message):
        backend.array_namespace(np.ones(1), None, backend.asarray([1.0]))


# --- devices, types, views -----------------------------------------------------------------------


def test_devices():
    pytest.importorskip("array_api_strict")
    assert backend.device_of(np.ones(1)) == "cpu"
    for place, on_host in (("array_api_strict", True), ("array_api_strict:device1", False)):
        chosen = select(place)
        x = backend.asarray([1.0])
        assert backend.device_of(x) == chosen.device
        assert backend.is_on_host(x) is on_host
    assert backend.is_on_host(np.ones(1))
    select("torch")
    assert backend.is_on_host(backend.asarray([1.0]))


def test_is_on_host_by_what_a_device_calls_itself(monkeypatch):
    """A CUDA device of torch and of CuPy are none, though no such array is at hand here."""
    for device, expected in (
        (types.SimpleNamespace(type="cuda", index=0), False),
        ("<CUDA Device 0>", False),
        (types.SimpleNamespace(type="cpu"), True),
    ):
        monkeypatch.setattr(backend.namespaces, "device_of", lambda x, device=device: device)
        assert backend.is_on_host(object()) is expected


@pytest.mark.parametrize("place", PLACES)
def test_types_by_name(place):
    xp = select(place).xp
    for name in ("float32", "float64"):
        assert backend.dtype_name(getattr(xp, name)) == name
        assert backend.dtype_by_name(xp, name) == getattr(xp, name)
        assert not backend.is_half(xp, getattr(xp, name))
        assert backend.wide_dtype(xp, getattr(xp, name)) == getattr(xp, name)
    for name in ("float16", "bfloat16"):
        if hasattr(xp, name):
            assert backend.is_half(xp, getattr(xp, name))
            assert backend.wide_dtype(xp, getattr(xp, name)) == xp.float32
            assert backend.dtype_name(getattr(xp, name)) == name
            assert backend.finfo(xp, getattr(xp, name)).bits == 16
    assert backend.dtype_name(np.dtype("float32")) == backend.dtype_name(np.float32) == "float32"


@pytest.mark.parametrize("place", PLACES)
def test_writable_views(place):
    assert backend.has_writable_views(select(place).xp)


def test_no_writable_views():
    frozen = types.ModuleType("frozen")
    frozen.float32, frozen.reshape, frozen.sum = np.float32, np.reshape, np.sum

    def zeros(n, dtype):
        x = np.zeros(n, dtype)
        x.flags.writeable = False
        return tuple(x)  # like jax, writing raises TypeError

    frozen.zeros, frozen.reshape = zeros, lambda x, shape: x
    assert backend.has_writable_views(frozen) is False
    copying = types.ModuleType("copying")
    copying.float32, copying.zeros, copying.sum = np.float32, np.zeros, np.sum
    copying.reshape = lambda x, shape: x.copy().reshape(shape)
    assert backend.has_writable_views(copying) is False


@pytest.mark.parametrize("place", PLACES)
def test_synchronize(place):
    select(place)
    assert backend.synchronize() is None


def test_signs_and_bounds(xp):
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-30, 3.0, np.inf, np.nan], np.float32)
    given = xp.asarray(x)
    np.testing.assert_array_equal(xp.to_numpy(backend.sign(xp.xp, given)), np.sign(x))
    np.testing.assert_array_equal(xp.to_numpy(backend.bounded(xp.xp, given, -1.5, 2.0)), np.clip(x, -1.5, 2.0))
    whole = backend.bounded(xp.xp, xp.asarray(np.arange(-3, 3)), -1, 1)
    np.testing.assert_array_equal(xp.to_numpy(whole), [-1, -1, -1, 0, 1, 1])


def test_nothing_is_asked_of_a_namespace_that_waits_on_cupy():
    """Of array_api_compat's functions for CuPy these pick elements by a mask, whose count is read from the GPU."""
    waiting = {"clip", "nonzero", "sign", "unique_all", "unique_counts", "unique_inverse", "unique_values"}
    found = []
    for file in sorted(Path(backend.__file__).parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in waiting:
                owner = ast.unparse(node.value)
                if owner == "xp" or owner.partition("(")[0].endswith("array_namespace"):
                    found.append(f"{file.name}: {ast.unparse(node)}")
    assert found == ["namespaces.py: xp.sign"]  # for other libraries
