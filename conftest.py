"""What the doctests leave out: modules that begin by importing a library that is not installed.

An import error anywhere else, in a test file above all, is an error.
"""

import importlib.util

NEED = {
    "cupy": ["xpnet/kernels/cupy/*"],
    "torch": ["xpnet/kernels/torch/*", "xpnet/bench/torch_rival.py"],
    "numba": ["xpnet/kernels/compiled/*"],
}
collect_ignore_glob = [
    pattern for library, modules in NEED.items() if importlib.util.find_spec(library) is None for pattern in modules
]
