"""Every CUDA source compiles for the GPUs it is meant for: by NVRTC, as CuPy does it, or nvcc; neither needs a GPU."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from xpnet.kernels.cuda import OPTIONS, SOURCES, TYPES, code, is_wide

ARCHITECTURES = ("sm_80", "sm_90")
NEITHER = "neither NVRTC (pip install nvidia-cuda-nvrtc) nor nvcc is installed"


@functools.cache
def nvrtc() -> ctypes.CDLL | None:
    """Return NVIDIA's run-time compiler: of its Python package, else of a CUDA toolkit; None if there is none."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found = [p for root in roots for p in sorted(root.glob("*/lib/libnvrtc.so.*"))]
    for name in [*map(str, found), "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compile_by_nvrtc(library: ctypes.CDLL, text: str, architecture: str) -> str:
    """Return what the compiler says: nothing, if all is well."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
    options = [f"-arch={architecture}".encode(), *(o.encode() for o in OPTIONS)]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode().strip() or ("failed" if status else "")


def compile_by_nvcc(text: str, architectures: Sequence[str], folder: Path) -> str:
    (folder / "kernels.cu").write_text(text)
    targets = [f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in architectures]
    quick = ["-Xptxas", "-O0"]  # it is never run
    command = ["nvcc", *OPTIONS, *targets, *quick, "-fatbin", "kernels.cu", "-o", "kernels.fatbin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() or ("failed" if done.returncode else "")


def compiled(text: str, folder: Path, architectures: Sequence[str] = ARCHITECTURES) -> str:
    """Return what the compiler says, for all architectures: nothing, if all is well."""
    library = nvrtc()
    if library is not None:
        return "\n".join(filter(None, (compile_by_nvrtc(library, text, a) for a in architectures)))
    if shutil.which("nvcc") is None:
        pytest.skip(NEITHER)
    return compile_by_nvcc(text, architectures, folder)


def every_source(dtype: str, wide: bool) -> str:
    """All sources in one text, each for itself: starting the compiler takes longer than compiling."""
    return "\n".join(f"namespace of_{name} {{\n{code(name, dtype, wide)}\n}}" for name in SOURCES)


@pytest.mark.parametrize("dtype, wide", [*((dtype, False) for dtype in TYPES), ("float32", True)])
def test_sources_compile_without_a_warning(dtype, wide, tmp_path):
    assert compiled(every_source(dtype, wide), tmp_path) == ""


def test_a_source_that_is_wrong_does_not(tmp_path):
    broken = code("optim", "float32", False).replace("A(lr)", "A(rl)")
    assert "rl" in compiled(broken, tmp_path, ["sm_90"])


def test_every_file_is_a_source_or_a_header():
    folder = Path(importlib.util.find_spec("xpnet.kernels.cuda").origin).parent
    assert {p.stem for p in folder.glob("*.cu")} == set(SOURCES)
    used = {"common", "half", "bfloat16", *(name for names in SOURCES.values() for name in names)}
    assert {p.stem for p in folder.glob("*.cuh")} == used


def test_nothing_is_added_in_an_order_left_to_chance():
    """No atomic operation: results repeat to the bit."""
    for name in SOURCES:
        assert not re.search(r"atomic\w*\s*\(", code(name, "float32", False))


def test_names_of_kernels_are_their_own():
    names = re.findall(r'extern "C" __global__ void (\w+)\(', every_source("float32", False))
    assert len(set(names)) == len(names) > 20


def test_wide_indices():
    assert not is_wide(1 << 29)
    assert is_wide(1 << 30)
    assert "using I = long long;" in code("conv", "float16", True)
    assert "using I = int;" in code("conv", "float16", False)
