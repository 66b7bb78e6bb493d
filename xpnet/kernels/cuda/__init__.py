"""Sources of the CUDA kernels, and what is needed to compile them: plain text, so that no CuPy is needed to check it.

`xpnet.kernels.cupy` compiles and launches them. Without a GPU the tests compile every source with NVRTC, and run it
on the CPU through a header that stands in for CUDA.
"""

from __future__ import annotations

import functools
from importlib import resources

__all__ = ["OPTIONS", "SOURCES", "TYPES", "code", "is_wide"]

# file -> headers that it needs beside common.cuh
SOURCES = {
    "activation": ("reduce", "relu"),
    "batch": ("rounded",),
    "bin_pool": ("place",),
    "clip": ("reduce",),
    "conv": (),
    "curves": ("bounded", "reduce"),
    "depthwise": ("place", "reduce"),
    "dropout": (),
    "element_loss": ("bounded", "reduce"),
    "gated": ("bounded",),
    "gradient": (),
    "graph": (),
    "group_norm": ("reduce",),
    "lamb": ("reduce",),
    "loss": ("reduce",),
    "matmul": (),
    "metrics": ("reduce", "rounded"),
    "norm": ("reduce", "relu"),
    "optim": (),
    "pool": ("place",),
    "softmax": ("reduce",),
}
# name of a float type -> types of its elements and of the arithmetic with them
TYPES = {
    "float32": ("float", "float"),
    "float64": ("double", "double"),
    "float16": ("Half", "float"),
    "bfloat16": ("BFloat16", "float"),
}
OPTIONS = ("-std=c++17",)


def is_wide(size: int) -> bool:
    """Tell whether an array of so many elements needs 64-bit indices; blocks round the number of threads up."""
    return size >= 1 << 30


@functools.cache
def code(source: str, dtype: str, wide: bool) -> str:
    """Return a source file with its headers, for arrays of one float type.

    Parameters
    ----------
    source : str
        From `SOURCES`.
    dtype : str
        From `TYPES`.
    wide : bool
        Whether indices have 64 bits.

    Examples
    --------
    >>> from xpnet.kernels.cuda import code
    >>> code("conv", "float32", False).splitlines()[0]
    'using T = float; using A = float; using I = int;'
    """
    element, arithmetic = TYPES[dtype]
    types = f"using T = {element}; using A = {arithmetic}; using I = {'long long' if wide else 'int'};\n"
    before = [_read(f"{element.lower()}.cuh")] if element != arithmetic else []
    after = [_read(f"{name}.cuh") for name in ("common", *SOURCES[source])]
    return "\n".join([*before, types, *after, _read(f"{source}.cu")])


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
