"""Loading mpi4py, with an error that says what is missing: the package, or the MPI library beneath it."""

from __future__ import annotations

import importlib
import os
from typing import Any

from xpnet.cores import usable_cores
from xpnet.errors import MissingDependencyError

INSTALL = "pip install 'xpnet[mpi]' brings both (MPICH); on a cluster, load its MPI first (module load openmpi)"


def load_mpi() -> Any:
    """Return ``mpi4py.MPI``; the import starts MPI."""
    _yield_where_cores_are_few()
    try:
        return importlib.import_module("mpi4py.MPI")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mpi4py":
            raise
        raise MissingDependencyError(f"distributed training needs mpi4py; {INSTALL}") from error
    except (ImportError, RuntimeError) as error:  # RuntimeError is what mpi4py 4 raises without a library
        said = " ".join(str(error).split())
        raise MissingDependencyError(
            f"mpi4py is installed, but it finds no MPI library it can use ({said:.200}); {INSTALL}, "
            "and MPI4PY_LIBMPI names a library that lies elsewhere"
        ) from error


def _yield_where_cores_are_few() -> None:
    """Let a rank that waits give way to the others, where there are more ranks than cores.

    MPICH polls in a loop; measured with 4 ranks on 2 cores, a sum of one number took 2.8 ms so and 0.04 ms with
    this. With a core for each rank it is the slower way (0.05 and 0.1 ms for 250 kB), so it stays off then.
    """
    ranks = os.environ.get("MPI_LOCALNRANKS", "")
    if ranks.isdecimal() and int(ranks) > usable_cores():
        os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
