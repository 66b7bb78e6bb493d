"""Losses that are a mean over elements: squared and absolute error, huber, binary cross entropy."""

from __future__ import annotations

import math
from typing import Any

from xpnet.backend import Array, array_namespace, bounded, sign, wide_dtype
from xpnet.kernels.agnostic.activation import logistic
from xpnet.kernels.table import register

__all__ = [
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "huber_backward",
    "huber_forward",
    "mean_absolute_error_backward",
    "mean_absolute_error_forward",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "nan_outside",
]


def _difference(xp: Any, y: Array, t: Array) -> Array:
    """Return y - t in at least float32: two float16 can be further apart than float16 can say."""
    wide = wide_dtype(xp, y.dtype)
    return xp.astype(y, wide, copy=False) - xp.astype(t, wide, copy=False)


@register("agnostic", "mean_squared_error_forward")
def mean_squared_error_forward(y: Array, t: Array, factor: float) -> tuple[Array, Array]:
    """Return factor/2 times the sum of the squares of y - t, a 0-d array, and y - t; both in at least float32."""
    xp = array_namespace(y)
    difference = _difference(xp, y, t)
    return xp.sum(difference * difference) * (0.5 * factor), difference


@register("agnostic", "mean_squared_error_backward")
def mean_squared_error_backward(dy: Array | float, difference: Array, factor: float, dtype: Any) -> Array:
    """Return dy * factor * difference in a type; dy is a number, or a 0-d array of the type of the difference."""
    return array_namespace(difference).astype(difference * (dy * factor), dtype, copy=False)


@register("agnostic", "mean_absolute_error_forward")
def mean_absolute_error_forward(y: Array, t: Array) -> tuple[Array, Array]:
    """Return the mean of |y - t|, a 0-d array, and y - t; both in at least float32."""
    xp = array_namespace(y)
    difference = _difference(xp, y, t)
    return xp.mean(xp.abs(difference)), difference


@register("agnostic", "mean_absolute_error_backward")
def mean_absolute_error_backward(dy: Array | float, difference: Array, dtype: Any) -> Array:
    """Return dy times the sign of the difference over the number of elements, in a type; dy as above."""
    xp = array_namespace(difference)
    factor = dy * (1.0 / math.prod(difference.shape))
    return xp.astype(sign(xp, difference) * factor, dtype, copy=False)


@register("agnostic", "huber_forward")
def huber_forward(y: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """Return the mean of the huber loss of y - t, a 0-d array, and y - t; both in at least float32."""
    xp = array_namespace(y)
    difference = _difference(xp, y, t)
    size = xp.abs(difference)
    near = xp.minimum(size, delta)
    return xp.mean(near * (size - 0.5 * near)), difference  # both pieces in one; no square that overflows


@register("agnostic", "huber_backward")
def huber_backward(dy: Array | float, difference: Array, delta: float, dtype: Any) -> Array:
    """Return dy times the difference between -delta and delta over the number of elements, in a type; dy as above."""
    xp = array_namespace(difference)
    factor = dy * (1.0 / math.prod(difference.shape))
    return xp.astype(bounded(xp, difference, -delta, delta) * factor, dtype, copy=False)


def nan_outside(xp: Any, t: Array, low: float, high: float) -> Array:
    """Return targets with NaN in place of those outside of a range."""
    return xp.astype(xp.where((t < low) | (t > high), math.nan, t), t.dtype, copy=False)


@register("agnostic", "binary_cross_entropy_forward")
def binary_cross_entropy_forward(
    logits: Array, t: Array, positive_weight: Array | None, checked: bool
) -> tuple[Array, Array]:
    """Return the mean cross entropy of sigmoid(logits) and the targets, in at least float32, and targets for backward.

    Targets outside of 0 to 1 are taken for NaN; nobody looks for them where they have been `checked`. The weights are
    in at least float32.
    """
    xp = array_namespace(logits)
    t = t if checked else nan_outside(xp, t, 0.0, 1.0)
    wide = wide_dtype(xp, logits.dtype)
    z, target = xp.astype(logits, wide, copy=False), xp.astype(t, wide, copy=False)
    rest = xp.log1p(xp.exp(-xp.abs(z)))  # -log(sigmoid(z)) is this and max(-z, 0): nothing cancels
    yes = target * (rest + xp.maximum(-z, 0.0))
    if positive_weight is not None:
        yes *= positive_weight
    return xp.mean(yes + (1.0 - target) * (rest + xp.maximum(z, 0.0))), t


@register("agnostic", "binary_cross_entropy_backward")
def binary_cross_entropy_backward(dy: Array | float, logits: Array, t: Array, positive_weight: Array | None) -> Array:
    """Return dy * d loss / d logits, of the type of the logits; dy is a number, or a 0-d array in at least float32."""
    xp = array_namespace(logits)
    wide = wide_dtype(xp, logits.dtype)
    target = xp.astype(t, wide, copy=False)
    s = logistic(xp, xp.astype(logits, wide, copy=False))
    if positive_weight is None:
        dlogits = s - target
    else:
        dlogits = (1.0 - target) * s - target * positive_weight * (1.0 - s)
    dlogits *= dy * (1.0 / math.prod(logits.shape))
    return xp.astype(dlogits, logits.dtype, copy=False)
