"""A stand-in for CuPy as a whole: an array type of its own, the namespace, and kernels run from their CUDA sources.

`xpnet.backend` loads it as it loads CuPy, so ``backend.using("cupy", dtype="bfloat16")`` trains on the CPU through the
code that would run on a GPU. NumPy refuses the arrays, as it refuses CuPy's, so a mix of host and device is noticed.
Types of results are those of CuPy 14.2: what NumPy makes of the types of ml_dtypes is mostly what CuPy makes of them,
and where it is not, that is written out here. `tests/test_backend_cupy.py` compares it with a CuPy that is installed.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import array_api_compat
import array_api_compat.numpy as compat
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tests.kernels.emulated_cupy import Emulator, installed
from xpnet.backend import limits, namespaces
from xpnet.kernels import table

ATTRIBUTES = ("dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides")


class Array(NDArrayOperatorsMixin):
    """An array on the GPU there is not."""

    gpu = 0

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in OWN:
            return functools.partial(wrapped(OWN[name]), self)
        value = getattr(self.host, name)
        return value if name in ATTRIBUTES else wrapped(value) if callable(value) else wrap(value)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        assert method == "__call__"
        if any(isinstance(a, np.ndarray) for a in (*inputs, *(out or ()))):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")  # as CuPy says
        if out is not None:
            settings["out"] = tuple(unwrap(a) for a in out)
        with np.errstate(all="ignore"):
            result = OWN.get(ufunc.__name__, ufunc)(*map(unwrap, inputs), **settings)
        return wrap(result) if out is None else out[0]

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __getitem__(self, place):
        return wrap(self.host[unwrap(place)])

    def __setitem__(self, place, value):
        self.host[unwrap(place)] = unwrap(value)

    def __len__(self):
        return len(self.host)

    def __float__(self):
        return float(self.host)

    def __int__(self):
        return int(self.host)

    __index__ = __int__

    def __bool__(self):
        return bool(self.host)

    def __repr__(self):
        return f"on the GPU: {self.host!r}"

    def __deepcopy__(self, memo):
        return Array(self.host.copy())

    @property
    def device(self):
        return Device(0)

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.host.ctypes.data, device_id=self.gpu)

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is None:
            return self.host.copy(order)
        out[...] = self.host
        return out

    def set(self, host, stream=None):
        self.host[...] = host


class Device:
    """The only GPU."""

    def __init__(self, index: int = 0) -> None:
        self.id = index

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id

    def use(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class Waiting:
    """A stream or an event: nothing is ever under way."""

    ptr = 7

    def __init__(self, **settings: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **settings: self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def wrap(value: Any) -> Any:
    """Put NumPy's arrays, and its scalars as arrays without axes, on the GPU."""
    if isinstance(value, (np.ndarray, np.generic)):
        return Array(np.asarray(value))
    return type(value)(map(wrap, value)) if type(value) in (tuple, list) else value


def unwrap(value: Any) -> Any:
    if isinstance(value, Array):
        return value.host
    return type(value)(map(unwrap, value)) if type(value) in (tuple, list) else value


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of NumPy work on arrays of the GPU."""

    @functools.wraps(function)
    def call(*given: Any, device: Any = None, **settings: Any) -> Any:
        with np.errstate(all="ignore"):
            return wrap(function(*map(unwrap, given), **{name: unwrap(value) for name, value in settings.items()}))

    return call


def is_bfloat16(a: Any) -> bool:
    return isinstance(a, (np.ndarray, np.generic)) and a.dtype.name == "bfloat16"


def widened(a: Any) -> Any:
    return a.astype(np.float32) if is_bfloat16(a) else a


# --- where CuPy 14.2 and NumPy with ml_dtypes part in bfloat16 ------------------------------------


def matmul(a, b, **settings):
    """By cuBLAS: sums in float32, the product rounded. Of stacks of matrices CuPy's kernel for integers fails."""
    if not (is_bfloat16(a) and is_bfloat16(b)):
        return np.matmul(a, b, **settings)
    if max(a.ndim, b.ndim) > 2:
        raise TypeError("CuPy 14 multiplies no stacks of matrices in bfloat16")
    product = (widened(a) @ widened(b)).astype(a.dtype)
    if "out" not in settings:
        return product
    settings["out"][0][...] = product
    return settings["out"][0]


def rounded(function):
    """Reduce in float32 and round, where NumPy would round after every term."""

    def reduce(a, *given, dtype=None, **settings):
        if not is_bfloat16(a) or dtype is not None:
            return function(a, *given, dtype=dtype, **settings)
        return np.asarray(function(widened(a), *given, **settings)).astype(a.dtype)

    return reduce


def where(condition, a, b):
    """Without a loop for bfloat16: float32."""
    return np.where(condition, *map(widened, (a, b))) if is_bfloat16(a) or is_bfloat16(b) else np.where(condition, a, b)


def ascontiguousarray(a, dtype=None):
    return np.ascontiguousarray(a, dtype=dtype)


OWN = {"matmul": matmul, "sum": rounded(compat.sum), "mean": rounded(compat.mean), "where": where}


class Library(types.ModuleType):
    """A module whose functions are those of NumPy's, on arrays of the GPU."""

    def __init__(self, name: str, of: types.ModuleType) -> None:
        super().__init__(name)
        self._of = of

    def __getattr__(self, name: str) -> Any:
        if name in ("__path__", "__all__", "bfloat16"):
            raise AttributeError(name)
        value = OWN.get(name) or getattr(self._of, name)
        return wrapped(value) if callable(value) and not isinstance(value, type) else value


class Complete(Emulator):
    """Stands in for the whole of CuPy."""

    def kernel(self, code, name, options=()):
        launch = super().kernel(code, name, options)
        return lambda grid, block, arguments: launch(grid, block, unwrap(tuple(arguments)))

    def modules(self) -> dict[str, types.ModuleType]:
        modules = super().modules()
        given = modules["cupy"]
        cupy = Library("cupy", np)
        cupy.ndarray, cupy.RawKernel, cupy._core, cupy.__version__ = Array, given.RawKernel, given._core, "14.2.0"
        cupy.is_available = lambda: True
        cupy.add = types.SimpleNamespace(types=("ee->e", "EE->E", "ff->f"))
        runtime = types.SimpleNamespace(
            getDevice=lambda: 0, getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000,
            memGetInfo=lambda: (8 << 30, 16 << 30),
        )  # fmt: skip
        pool = types.SimpleNamespace(total_bytes=lambda: 0, used_bytes=lambda: 0, get_limit=lambda: 0)
        cupy.get_default_memory_pool = lambda: pool
        cupy.cuda = types.SimpleNamespace(
            runtime=runtime, Device=Device, Stream=Waiting, Event=Waiting, get_current_stream=Waiting,
            get_local_runtime_version=lambda: 13000,
        )  # fmt: skip
        cupyx = modules["cupyx"]
        cupyx.empty_pinned = np.empty
        erf = modules["cupyx.scipy.special"].erf
        modules["cupyx.scipy.special"].erf = lambda x: wrap(erf(widened(x.host)).astype(widened(x.host).dtype))
        return modules | {"cupy": cupy}


@contextlib.contextmanager
def complete(emulator: Complete) -> Iterator[dict[str, object]]:
    """Let the backend "cupy" be the stand-in; yield its kernels by name, and leave no trace."""
    namespace = Library("array_api_compat.cupy", compat)
    with contextlib.ExitStack() as stack:
        kernels = stack.enter_context(installed(emulator))
        sys.modules[namespace.__name__] = namespace  # no mock.patch.dict: it would forget what is imported meanwhile
        stack.callback(sys.modules.pop, namespace.__name__)
        stack.enter_context(mock.patch.object(array_api_compat, "cupy", namespace, create=True))
        stack.enter_context(mock.patch.object(limits, "_in_use", []))
        stack.enter_context(mock.patch.dict(namespaces._NAMESPACES, {Array: namespace}))
        stack.enter_context(mock.patch.dict(namespaces._WRITABLE_VIEWS))
        stack.enter_context(mock.patch.object(table, "_LOADED", set(table._LOADED)))
        yield kernels
