"""Importing the packages that only some users need, with an error that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from xpnet.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, purpose: str, extra: str = "train") -> Any:
    """Import an optional module.

    Parameters
    ----------
    module : str
        Such as ``"matplotlib.figure"``.
    purpose : str
        What needs it, to begin the error message with.
    extra : str, default "train"
        The extra of xpnet that installs it.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If it is not installed.

    Examples
    --------
    >>> from xpnet.optional import require
    >>> require("no_such_module", "the example")
    Traceback (most recent call last):
        ...
    xpnet.errors.MissingDependencyError: the example needs no_such_module; pip install 'xpnet[train]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but something it needs itself is not
        package = module.partition(".")[0]
        raise MissingDependencyError(f"{purpose} needs {package}; pip install 'xpnet[{extra}]'") from error
