"""What is noted beside results, so that they can be had again."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from xpnet import backend, config
from xpnet.run.origin import origin


def test_what_computed_is_named():
    with backend.using("numpy", dtype="float64") as chosen, config.using(compiled="off"):
        found = origin("a command", chosen)
    assert (found["command"], found["backend"], found["dtype"]) == ("a command", "numpy", "float64")
    assert found["versions"]["numpy"] == np.__version__
    assert "numba" not in found["versions"]


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
def test_numba_is_named_where_it_compiles_loops(library):
    pytest.importorskip("numba")
    with backend.using(library) as chosen, config.using(compiled="auto"):
        versions = origin("a command", chosen)["versions"]
    assert versions.get("numba") == (importlib.metadata.version("numba") if library == "numpy" else None)
