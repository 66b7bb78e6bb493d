"""Models by the text that names them: one of xpnet's with its options, or one of the user's own."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from xpnet.layers import Layer
from xpnet.models.named import by_name, names, unknown
from xpnet.text import near, parse_spec

__all__ = ["check_spec", "from_spec", "is_own"]


def is_own(spec: str) -> bool:
    """Tell whether a text names a model of the user's own, ``PACKAGE.MODULE:NAME``.

    Examples
    --------
    >>> from xpnet.models.spec import is_own
    >>> is_own("mine.nets:small"), is_own("lenet:activation=relu"), is_own("lenet")
    (True, False, False)
    """
    module, _, attribute = spec.partition(":")
    return module not in names() and all(part.isidentifier() for part in f"{module}.{attribute}".split("."))


def check_spec(spec: str) -> None:
    """Raise if a text names no model of xpnet's and cannot be one of the user's own, which is not imported for it.

    Raises
    ------
    ValueError
    """
    name, *options = (part.strip() for part in spec.split(":"))
    if len(options) > 1 and is_own(f"{name}:{options[0]}"):  # a file could choose what a function is called with
        raise ValueError(
            f"models: {name}:{options[0]} takes no options, which are for xpnet's models; name a function of its own "
            f"for {':'.join(options[1:])}"
        )
    path, _, attribute = spec.partition(":")
    module = path.removesuffix(".py").removeprefix("./").replace("/", ".")
    if "/" in path and is_own(f"{module}:{attribute or 'NAME'}"):
        raise ValueError(f"models: {path} is a path, expected a module: {module}:{attribute or 'NAME'}")
    if name not in names() and not is_own(spec):
        raise ValueError(f"{unknown(name)}; PACKAGE.MODULE:NAME is one of your own")


def from_spec(
    spec: str,
    classes: int | None = None,
    *,
    insist: bool = False,
    outside: str | os.PathLike[str] | None = None,
) -> Layer:
    """Return the model that a text names, not built unless its own code has built it.

    Parameters
    ----------
    spec : str
        A name that `by_name` knows, with options behind colons (``lenet:activation=relu``); or ``PACKAGE.MODULE:NAME``,
        a function or class that returns a layer, or a layer, of which a copy is returned. The module is imported as
        ``import`` would.
    classes : int, optional
        By default the model's own. A function of the user's is given them if it has a parameter of that name.
    insist : bool, default False
        Raise if the model cannot be given the classes.
    outside : path, optional
        A folder that the module must not lie in: files that only lie there are not run.

    Raises
    ------
    ValueError
        If there is no such model, or what is named is none; whatever the user's own code raises becomes one.

    Examples
    --------
    >>> from xpnet.models import from_spec
    >>> from_spec("lenet:activation=relu", 7).output_shape((1, 28, 28))
    (7,)
    >>> from_spec("xpnet.models:LeNet", 7).output_shape((1, 28, 28))
    (7,)
    """
    check_spec(spec)
    if is_own(spec):
        return _own(spec, classes, insist, outside)
    name, values, options = parse_spec(spec)
    if values:
        raise ValueError(
            f"model {spec!r}: give options by name, such as lenet:activation=relu; {name} is a model of xpnet's (a "
            "module of your own needs another name)"
        )
    if "classes" in options:
        raise ValueError(f"model {spec!r}: classes is no option: it is that of the data, or what --classes says")
    return by_name(name, **({} if classes is None else {"classes": classes}), **options)


def _own(spec: str, classes: int | None, insist: bool, outside: str | os.PathLike[str] | None) -> Layer:
    module, _, attribute = spec.partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:  # a call of its functions could do anything but that
        raise ValueError(f"model {spec}: {module} is of Python's own library, where no models are; rename yours")
    try:
        if outside is not None:
            _check_place(module, Path(outside).resolve())
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        found = _made(found, classes, insist)
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises
        raise ValueError(f"model {spec}: {type(error).__name__}: {error}{_hint(error, module)}") from error
    if not isinstance(found, Layer):
        raise ValueError(f"model {spec}: expected a layer or a function that returns one, got {type(found).__name__}")
    return found


def _made(found: Any, classes: int | None, insist: bool) -> Any:
    """Return what a function or class returns, with the classes if it takes them; of a layer, a copy."""
    makes = callable(found) and not isinstance(found, Layer)
    parameter = inspect.signature(found).parameters.get("classes") if makes else None
    if insist and parameter is None:
        raise TypeError(f"it has no parameter classes, so it cannot be given {classes}")
    if not makes:
        return copy.deepcopy(found)  # what is trained is not the module's
    if parameter is None:
        return found()
    if classes is not None:
        return found(classes=classes)
    if parameter.default is parameter.empty:
        raise TypeError("its parameter classes has no default; give their number (--classes)")
    return found()


def _check_place(module: str, folder: Path) -> None:
    """Raise if importing a module would run a file below a folder."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):  # finding a module imports the packages around it, which have been looked at
        found = importlib.util.find_spec(".".join(parts[:end]))
        places = () if found is None else (found.origin, *(found.submodule_search_locations or ()))
        for place in places:
            if place is not None and Path(place).resolve().is_relative_to(folder):
                raise ImportError(
                    f"it is {place}, which came with the run: files of a run's folder are not executed; "
                    "if you trust it, move it or the run elsewhere"
                )


def _hint(error: BaseException, module: str) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        where = "it must be installed, on PYTHONPATH, or in the folder that xpnet is called in"
        if module.endswith(".py"):
            return f"; a module is named without the .py of its file, and {where}"
        return f"; {where}{near(module, names(), least=0.75)}"  # mine is not meant to be mobilenet
    if isinstance(error, AttributeError) and error.name is not None:
        return near(error.name, dir(error.obj))
    return ""
