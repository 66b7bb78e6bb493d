"""Checks shared by the losses: targets that fit, a loss that is finite, a gradient of it that is one number."""

from __future__ import annotations

import math
from typing import Any

from xpnet.backend import Array, array_namespace, device_of, is_on_host, wide_dtype
from xpnet.errors import ArgumentError, ArrayMismatchError, NonFiniteError, OperationError, ShapeError
from xpnet.functional.checks import check_arrays, describe_non_finite, is_integer

__all__ = [
    "check_finite",
    "check_place",
    "check_range",
    "check_same_shape",
    "check_scale",
    "check_targets",
    "check_weights",
    "scale_as",
]


def check_place(op: str, like_name: str, like: Array, name: str, x: Array) -> Any:
    """Refuse `x` of another library or device than `like`, whatever its type; return the namespace."""
    try:
        array_namespace(x)  # beside `like`, None would be an argument left out
        xp = array_namespace(like, x)
    except OperationError as error:
        error.operation, error.detail = op, f"{name}: {error.detail}"
        raise
    if device_of(x) != device_of(like):
        raise ArrayMismatchError(
            op,
            f"{like_name} on {device_of(like)} but {name} on {device_of(x)}; move {name} with xpnet.backend.asarray",
        )
    return xp


def check_scale(op: str, dy: Array | float, like: Array) -> Any:
    """Refuse a gradient of the loss that is neither a number nor a 0-d array; return the namespace."""
    if isinstance(dy, (int, float)):
        return array_namespace(like)
    xp = check_place(op, "predictions", like, "dy", dy)
    if len(dy.shape):
        raise ShapeError(op, f"dy has shape {tuple(dy.shape)} but the loss is one number; give a float or a 0-d array")
    return xp


def scale_as(xp: Any, dy: Array | float, dtype: Any) -> Array | float:
    """Return the gradient of the loss as something to multiply an array of a type by without changing it."""
    return float(dy) if isinstance(dy, (int, float)) else xp.astype(dy, dtype, copy=False)


def check_same_shape(op: str, name: str, y: Array, t: Array) -> None:
    """Refuse targets of another shape than the predictions (nothing broadcasts), and an empty batch."""
    check_arrays(op, t=t)  # beside y, None would be an argument left out
    if tuple(y.shape) != tuple(t.shape):
        raise ShapeError(op, f"{name} has shape {tuple(y.shape)} but t has {tuple(t.shape)}; they must be equal")
    if len(y.shape) < 1 or 0 in y.shape:
        raise ShapeError(op, f"the batch is empty: {name} has shape {tuple(y.shape)}")


def check_targets(op: str, name: str, y: Array, t: Array) -> Array:
    """Return targets of the place and shape of `y` in its float type; integers are taken too."""
    xp = check_arrays(op, **{name: y})
    check_place(op, name, y, "t", t)
    if is_integer(xp, t):
        t = xp.astype(t, y.dtype)
    check_arrays(op, **{name: y, "t": t})
    check_same_shape(op, name, y, t)
    return t


def check_weights(op: str, logits: Array, name: str, weights: Array) -> Array:
    """Return weights, of the place and type of `logits` or in float32 beside a half type, in at least float32."""
    wide = wide_dtype(check_place(op, "logits", logits, name, weights), logits.dtype)
    if weights.dtype == wide:  # what a half type would round, or could not hold
        return weights
    xp = check_arrays(op, **{"logits": logits, name: weights})
    return xp.astype(weights, wide)


def check_range(op: str, t: Array, low: float, high: float, remedy: str) -> bool:
    """Refuse targets outside of a range; False where looking would stall a device: there they are to become NaN."""
    if not is_on_host(t):
        return False
    xp = array_namespace(t)
    least, most = float(xp.min(t)), float(xp.max(t))
    if least < low or most > high:  # NaN is neither: it is reported with the loss
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ArgumentError(op, f"targets must be {bounds}, got targets from {least:g} to {most:g}; {remedy}")
    return True


def check_finite(op: str, loss: Array, **arrays: Array | None) -> None:
    """Where reading costs nothing, turn a loss that is not finite into an error that says where it comes from."""
    if not is_on_host(loss) or math.isfinite(float(loss)):
        return
    for name, x in arrays.items():
        bad = None if x is None else describe_non_finite(x)
        if bad:
            raise NonFiniteError(
                op,
                f"{name} holds {bad}, so the loss is {float(loss)}; "
                "check the input for NaN, or lower the learning rate",
            )
    raise NonFiniteError(op, f"the loss is {float(loss)} although its inputs are finite; scale the inputs down")
