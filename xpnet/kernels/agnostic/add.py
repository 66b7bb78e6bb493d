"""The sum of what two branches give, and the relu of it."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace
from xpnet.kernels.table import find, register

__all__ = ["add", "add_relu"]


@register("agnostic", "add")
def add(a: Array, b: Array, overwrite: bool) -> Array:
    """Return a + b of arrays of one shape; with `overwrite`, a library may put it where a is."""
    return a + b


@register("agnostic", "add_relu")
def add_relu(a: Array, b: Array, overwrite: bool) -> Array:
    """Return relu(a + b) of arrays of one shape; with `overwrite`, a library may put it where a is."""
    xp = array_namespace(a)
    return find("relu_forward", xp)(find("add", xp)(a, b, overwrite), True)
