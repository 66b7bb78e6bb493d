"""A stand-in for CuPy without a GPU: NumPy's arrays, and kernels compiled from their CUDA source by a C++ compiler.

`xpnet.kernels.cupy` is imported with it as it is, so both the sources and the code that launches them are what runs.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import array_api_compat.numpy as xp
import numpy as np

from xpnet import backend
from xpnet.kernels import table

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
SCALARS = {"long long": np.int64, "Word": np.uint64, "double": np.float64, "bool": np.bool_}
ELEMENTS = {
    "float": "float32",
    "double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "bool": "bool",
    "unsigned char": "uint8",
    "Word": "uint64",
    "long long": "int64",
}
STRUCTURES = {
    "Window": 14 * 4,
    "Product": 12 * 8,
    "Words": 32 * 8,
    "Additions": 3 * 128 * 8,
}  # bytes of what is passed by value
CREATING = ("empty", "empty_like", "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "asarray", "arange")
STRIDED = ("product_flat", "product_small", "product_large")  # are told how their arrays lie


def compiler() -> str | None:
    """Return a C++ compiler for a system that has coroutines in its C library, or None."""
    found = next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), None)
    return found if sys.platform == "linux" else None


def folder_of_kernels(tmp_path_factory: Any) -> Path:
    """Return the folder for what is compiled in this run of the tests, by all of its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled-kernels"
    folder.mkdir(exist_ok=True)
    return folder


def parse(code: str) -> dict[str, list[tuple[str, bool]]]:
    """Return for each kernel its parameters as (type, whether a pointer)."""
    kernels = {}
    for name, text in SIGNATURE.findall(code):
        parameters = []
        for parameter in re.sub(r"\s+", " ", text).split(", "):
            kind = parameter.rpartition(" ")[0].removeprefix("const ").strip()
            parameters.append((kind.removesuffix("*"), kind.endswith("*")))
        kernels[name] = parameters
    return kernels


def translate(code: str) -> str:
    """Return the source as C++ with a function for each kernel that takes its arguments as an array of pointers."""
    own = re.sub(r"// float16.*?\n(?=using T)", "", code, flags=re.S)  # the header has it
    assert "asm" not in own
    barriers = "true" if "__syncthreads" in code else "false"
    parts = [f'#include "{HEADER.name}"', own]
    for name, parameters in parse(code).items():
        given = ", ".join(f"*({kind}{'*' * pointer}*)a[{i}]" for i, (kind, pointer) in enumerate(parameters))
        parts.append(
            f"static void call_{name}(void** a) {{ {name}({given}); }}\n"
            f'extern "C" bool run_{name}(void** a, unsigned x, unsigned y, unsigned threads) '
            f"{{ return run_grid(call_{name}, a, x, y, threads, {barriers}); }}"
        )
    return "\n".join(parts)


class Emulator:
    """Compiles sources into a folder, once each, and makes the stand-in for the module `cupy`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launched: set[str] = set()

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """Yield the names of the kernels that are launched in a ``with`` block."""
        before, self.launched = self.launched, set()
        try:
            yield self.launched
        finally:
            self.launched = before | self.launched

    @functools.cache  # noqa: B019 - lives as long as the tests that share it
    def library(self, code: str) -> ctypes.CDLL:
        text = translate(code)
        target = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:  # other processes may be at the same source
                source, made = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
                source.write_text(text)
                command = [compiler(), "-O1", "-std=c++17", "-Wall", "-Werror", "-Wno-unused-function", "-shared"]
                command += ["-fPIC", f"-I{HEADER.parent}", str(source), "-o", str(made)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                made.replace(target)
        return ctypes.CDLL(os.fspath(target))

    def kernel(self, code: str, name: str, options: tuple[str, ...] = ()):
        """Stand in for cupy.RawKernel; stricter than it about what it is given."""
        parameters = parse(code)[name]
        types_ = dict(re.findall(r"using ([TA]) = (\w+);", code))

        def launch(grid, block, arguments):
            assert len(arguments) == len(parameters), f"{name} takes {len(parameters)} arguments, got {len(arguments)}"
            assert len(block) == 1
            assert 0 < block[0] <= 1024
            assert 0 < grid[0] < 1 << 31
            assert all(0 < n <= 65535 for n in grid[1:])
            values = [
                self._array(name, types_, *given) if given[0][1] else self._value(name, *given)
                for given in zip(parameters, arguments, strict=True)
            ]
            pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            y = grid[1] if len(grid) > 1 else 1
            run = getattr(self.library(code), f"run_{name}")
            run.restype = ctypes.c_bool
            assert run(pointers, grid[0], y, block[0]), f"threads of {name} part at a barrier"
            self.launched.add(name)

        return launch

    @staticmethod
    def _array(name, types_, parameter, array):
        """Return the address of an array's memory as an array, once the kernel may take it for what it is."""
        if array is None:
            return np.zeros(1, np.uintp)
        assert isinstance(array, np.ndarray), f"{name}: {array!r} for an array"
        assert array.flags.c_contiguous or name in STRIDED, f"{name}: an array with gaps"
        element = ELEMENTS[types_.get(parameter[0], parameter[0])]
        assert array.dtype.name == element, f"{name}: {array.dtype} for {element}"
        return np.array([array.ctypes.data], np.uintp)

    @staticmethod
    def _value(name, parameter, value):
        kind, _ = parameter
        if kind in STRUCTURES:
            assert (value.size, value.dtype.itemsize) == (1, STRUCTURES[kind])
            return value
        expected = SCALARS[kind]
        allowed = {np.int64: int, np.uint64: np.uint64, np.float64: float, np.bool_: bool}[expected]
        assert type(value) is allowed, f"{name}: {value!r} for {kind}"
        return np.array([value], expected)

    def modules(self) -> dict[str, types.ModuleType]:
        cupy = types.ModuleType("cupy")
        cupy.__getattr__ = functools.partial(getattr, np)
        cupy.RawKernel = self.kernel
        cupy._core = types.SimpleNamespace(set_compute_type=lambda dtype, kind: None)  # what allow_tf32 tells CuPy
        runtime = types.SimpleNamespace(getDevice=lambda: 0, getDeviceCount=lambda: 1)
        cupy.cuda = types.SimpleNamespace(runtime=runtime, get_current_stream=lambda: types.SimpleNamespace(ptr=7))
        special = types.ModuleType("cupyx.scipy.special")
        special.erf = np.vectorize(math.erf, otypes=[float])
        return {
            "cupy": cupy,
            "cupyx": types.ModuleType("cupyx"),
            "cupyx.scipy": types.ModuleType("cupyx.scipy"),
            "cupyx.scipy.special": special,
        }


def address(a: Any) -> int:
    """Return where an array of NumPy lies, or one that is CuPy's."""
    return a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr


@contextmanager
def installed(emulator: Emulator) -> Iterator[dict[str, object]]:
    """Import the kernels for CuPy with the stand-in; yield them by name, and leave no trace."""
    for library in ("numpy", "compiled", "torch"):  # what is loaded meanwhile would be forgotten with the stand-in
        with suppress(ImportError):
            table.load(library)
    before, entries = dict(sys.modules), dict(table._TABLE)
    for name in [n for n in sys.modules if n == "xpnet.kernels.cupy" or n.startswith("xpnet.kernels.cupy.")]:
        del sys.modules[name]
    sys.modules.update(emulator.modules())
    try:
        importlib.import_module("xpnet.kernels.cupy")
        for module in [m for n, m in sys.modules.items() if n.startswith("xpnet.kernels.cupy.")]:
            if hasattr(module, "address"):
                module.address = address
        yield {name: function for (library, name), function in table._TABLE.items() if library == "cupy"}
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith(("cupy", "xpnet.kernels.cupy")):
                del sys.modules[name]
        sys.modules.update(before)
        table._TABLE.clear()
        table._TABLE.update(entries)


def nowhere(x: Any) -> bool:
    """Stand in for `is_on_host`."""
    return False


@contextmanager
def standing_in(
    emulator: Emulator, creator: Callable[[str], Callable[..., Any]], dtype: str = "float32"
) -> Iterator[None]:
    """Let what `creator(name)` makes of NumPy's functions be CuPy's arrays, whose values are out of sight."""
    with installed(emulator) as own, ExitStack() as stack:
        others = {key: f for key, f in table._TABLE.items() if key[0] not in ("numpy", "compiled")}
        mine = {("numpy", name): function for name, function in own.items()}
        stack.enter_context(mock.patch.object(table, "_TABLE", others | mine))
        stack.enter_context(mock.patch.object(table, "_has_numba", return_value=False))
        for name in CREATING:
            stack.enter_context(mock.patch.object(xp, name, creator(name)))
        for module in [m for n, m in sys.modules.items() if n.startswith("xpnet") and hasattr(m, "is_on_host")]:
            stack.enter_context(mock.patch.object(module, "is_on_host", nowhere))  # a mock would keep the arrays
        stack.enter_context(backend.using("numpy", dtype=dtype))
        yield
