"""Promises about every module: it imports, says what is public, and documents it."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import sys

import pytest

import xpnet
import xpnet.functional as F

OPTIONAL = ("cupy", "torch", "mpi4py")  # modules of these libraries' kernels import where the library does


def module_names():
    return ["xpnet", *(m.name for m in pkgutil.walk_packages(xpnet.__path__, "xpnet.", onerror=lambda name: None))]


def load(name):
    optional = any(part.startswith(OPTIONAL) for part in name.split("."))
    if optional and not hasattr(sys.modules.get(name, xpnet), "__all__"):
        del sys.modules[name]  # pytest leaves it there when its import failed in the search for doctests
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if name.rpartition(".")[2].startswith(OPTIONAL) or getattr(error, "name", None) in OPTIONAL:
            pytest.skip(f"{name}: {error}")
        raise


every_module = pytest.mark.parametrize("name", [n for n in module_names() if not n.endswith("__main__")])


@every_module
def test_imports_and_has_a_docstring(name):
    assert load(name).__doc__


def isort_style(name):
    """Constants, classes, the rest: the order in which ruff wants ``__all__`` too."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@every_module
def test_all_is_sorted_and_true(name):
    module = load(name)
    if name.rpartition(".")[2].startswith("_") or (name == "xpnet" and not hasattr(module, "__all__")):
        return  # private modules need none
    public = list(module.__all__)
    assert public == sorted(set(public), key=isort_style)
    missing = [n for n in public if not hasattr(module, n)]
    assert not missing


@every_module
def test_what_is_public_is_documented(name):
    module = load(name)
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert (inspect.getdoc(thing) or "").strip(), f"{name}.{public} has no docstring"
            first = inspect.getdoc(thing).splitlines()[0]
            assert not first.startswith(f"{public}("), f"{name}.{public}: the docstring is the signature"


SECTIONS = ["Parameters", "Returns", "Raises", "Examples"]


@pytest.mark.parametrize("name", [n for n in F.__all__ if n.endswith(("_forward", "_backward"))])
def test_operations_have_all_sections_in_order(name):
    lines = inspect.getdoc(getattr(F, name)).splitlines()
    found = [a for a, b in itertools.pairwise(lines) if b == "-" * len(a) and a in SECTIONS]
    assert found == SECTIONS


@pytest.mark.parametrize("name", [n for n in F.__all__ if n.endswith("_forward")])
def test_parameters_are_documented(name):
    function = getattr(F, name)
    text = inspect.getdoc(function).partition("Parameters\n")[2].partition("Returns\n")[0]
    documented = [
        p.strip() for line in text.splitlines() if line and line[0] != " " for p in line.partition(" : ")[0].split(",")
    ]
    for parameter in inspect.signature(function).parameters:
        assert parameter in documented, f"{name} does not document {parameter}"


@pytest.mark.parametrize("name", [n for n in F.__all__ if n.endswith("Ctx")])
def test_contexts_are_named_tuples_that_say_what_they_keep(name):
    context = getattr(F, name)
    assert issubclass(context, tuple)
    assert context._fields
    assert context.__doc__.startswith("Kept for backward")
