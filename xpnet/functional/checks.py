"""Checks shared by the operations: that arrays are arrays, belong together and have the right shape."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from xpnet.backend import Array, array_namespace, device_of, is_half
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, OperationError, ShapeError

__all__ = [
    "check_arrays",
    "check_gradient",
    "check_images",
    "check_ndim",
    "check_not_negative",
    "check_positive_int",
    "describe_non_finite",
    "is_integer",
    "is_number",
    "is_relu",
]

_KINDS: dict[tuple[Any, Any], str] = {}  # (namespace, dtype) -> "float" | "integer" | "other"
# (type of array that has its device as an attribute, float dtype) -> namespace, of what has passed a check, which is
# then one look: a step has hundreds of them
_FLOATS: dict[tuple[type, Any], Any] = {}


def _kind(xp: Any, dtype: Any) -> str:
    key = (xp, dtype)
    if key not in _KINDS:
        if is_half(xp, dtype) or xp.isdtype(dtype, "real floating"):
            _KINDS[key] = "float"
        else:
            _KINDS[key] = "integer" if xp.isdtype(dtype, "integral") else "other"
    return _KINDS[key]


def is_integer(xp: Any, x: Array) -> bool:
    """Tell whether `x` holds integers (bool is none)."""
    return _kind(xp, x.dtype) == "integer"


def is_number(value: Any) -> bool:
    """Tell whether a setting is a real number, which can be compared with its limits."""
    return isinstance(value, Real)


def is_relu(operation: str, activation: str | None) -> bool:
    """Tell whether an operation is to end in relu, the only activation that one does with its own work.

    Raises
    ------
    ArgumentError
        If it is neither that nor None.
    """
    if activation not in (None, "relu"):
        raise ArgumentError(
            operation, f"activation must be None or 'relu', got {activation!r}; apply others to the output"
        )
    return activation is not None


def check_arrays(operation: str, **arrays: Array | None) -> Any:
    """Return the namespace of the named float arrays; None stands for an argument left out.

    Raises
    ------
    DTypeError
        If one is no array or does not hold real floating-point numbers.
    ArrayMismatchError
        If they differ in library, device or float type. Nothing is moved or promoted silently.
    """
    given = iter(arrays.values())
    first: Any = next(given)
    kind = type(first)
    xp = _FLOATS.get((kind, getattr(first, "dtype", None)))
    if xp is not None:
        for x in given:
            if x is not None and (type(x) is not kind or x.dtype != first.dtype or x.device != first.device):
                break
        else:
            return xp
    return _check_each(operation, arrays)


def _check_each(operation: str, arrays: dict[str, Array | None]) -> Any:
    """Check arrays with all that the errors need to say, and remember the type of what passes."""
    first_name, first, xp = "", None, None
    x: Any
    for name, x in arrays.items():
        if x is None and first is not None:
            continue
        try:
            xp_of_x = array_namespace(x)
        except OperationError as error:
            error.operation = operation
            error.detail = f"{name}: {error.detail}"
            raise
        if first is None:
            first_name, first, xp = name, x, xp_of_x
            if _kind(xp, x.dtype) != "float":
                raise DTypeError(
                    operation,
                    f"{name} must hold floating-point numbers, got {x.dtype} (shape {tuple(x.shape)}); "
                    "convert it, for instance with xpnet.backend.asarray(x, dtype='float32')",
                )
        elif xp_of_x is not xp or x.dtype != first.dtype or device_of(x) != device_of(first):
            raise _mismatch(operation, first_name, first, name, x)
    found: Any = first
    if getattr(found, "device", None) == device_of(found):
        _FLOATS[type(found), found.dtype] = xp
    return xp


def _mismatch(operation: str, first_name: str, first: Array, name: str, x: Array) -> ArrayMismatchError:
    def describe(a: Array) -> str:
        return f"{type(a).__module__.partition('.')[0]} {a.dtype} on {device_of(a)}"

    same_place = type(first) is type(x) and device_of(first) == device_of(x)
    remedy = (
        "convert one to the other's float type"
        if same_place
        else "move one with xpnet.backend.asarray, or the model with model.to(...)"
    )
    return ArrayMismatchError(operation, f"{first_name} is {describe(first)} but {name} is {describe(x)}; {remedy}")


def check_ndim(operation: str, name: str, x: Array, ndim: int, axes: str) -> None:
    """Refuse an array whose number of axes is not `ndim`, or that is empty; `axes` describes what is wanted."""
    if len(x.shape) != ndim:
        raise ShapeError(operation, f"{name} must have {ndim} axes {axes}, got shape {tuple(x.shape)}")
    if 0 in x.shape:
        empty = "the batch is empty" if x.shape[0] == 0 else "an axis is empty"
        raise ShapeError(operation, f"{empty}: {name} has shape {tuple(x.shape)}; {axes} must all be at least 1")


def check_images(operation: str, x: Array) -> None:
    """Refuse anything but a non-empty batch of images."""
    if len(x.shape) == 3:
        raise ShapeError(
            operation,
            f"x must have 4 axes (N, C, H, W), got shape {tuple(x.shape)}; "
            "give a single image or a missing channel its axis, as in x[None, ...] or x[:, None, ...]",
        )
    check_ndim(operation, "x", x, 4, "(N, C, H, W)")


def check_gradient(operation: str, dy: Array, like: Array, shape: tuple[int, ...]) -> Any:
    """Refuse a `dy` that does not match the output of the forward pass; return the namespace."""
    xp = check_arrays(operation, dy=dy, x=like)
    if tuple(dy.shape) != tuple(shape):
        raise ShapeError(
            operation,
            f"dy has shape {tuple(dy.shape)} but the forward pass gave {tuple(shape)}; they must be equal",
        )
    return xp


def check_not_negative(operation: str, **settings: float) -> None:
    """Refuse a setting that is no number, or negative, infinite or NaN.

    Raises
    ------
    ArgumentError
        If one is.
    """
    for name, value in settings.items():
        if not is_number(value) or not 0.0 <= value < math.inf:
            raise ArgumentError(operation, f"{name} must be finite and at least 0, got {value!r}")


def check_positive_int(operation: str, name: str, value: Any) -> int:
    """Return a setting as an int, or refuse what is no positive one.

    Raises
    ------
    ArgumentError
        If it is another number, a bool or no number at all.
    """
    if not hasattr(value, "__index__") or isinstance(value, bool) or value < 1:
        raise ArgumentError(operation, f"{name} must be a positive int, got {value!r}")
    return int(value)


def describe_non_finite(x: Array) -> str | None:
    """Return how many values of `x` are NaN or infinite and where the first is; None if all are finite.

    It reads the answer, so on a GPU it waits for the device.
    """
    xp = array_namespace(x)
    bad = ~xp.isfinite(x)
    count = int(xp.sum(xp.astype(bad, xp.int64)))
    if not count:
        return None
    rows = xp.any(xp.reshape(bad, (x.shape[0], -1)), axis=1) if len(x.shape) else xp.reshape(bad, (1,))
    first = int(xp.argmax(xp.astype(rows, xp.int64)))
    return f"{count} values that are NaN or infinite, first in row {first}"
