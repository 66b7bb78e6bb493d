"""Losses that are a mean over elements, for CuPy: a launch each way, two forward where the sum is cut into parts."""

from __future__ import annotations

import math
from typing import Any

import cupy

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy.launch import contiguous, launch, launch_sums, packed, unpacked
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
]


def _sum(name: str, y: Array, *arguments: Any) -> Array:
    """Return what a kernel adds up over the elements of `y` and arrays beside it: a 0-d array in at least float32."""
    total = cupy.empty((), wide_dtype(cupy, y.dtype))
    launch_sums("element_loss", name, total, y.size, (y, *arguments), (y.size,), is_wide(y.size), y.dtype)
    return total


def _difference(name: str, y: Array, t: Array, *numbers: float) -> tuple[Array, Array]:
    """Return what a kernel makes of y - t, added up, and y - t."""
    y, t = packed(y), packed(t)
    difference = cupy.empty(y.shape, wide_dtype(cupy, y.dtype))
    return _sum(name, y, t, difference, *numbers), unpacked(difference)


def _gradient(name: str, dy: Array | float, dtype: Any, given: tuple[Any, ...], *numbers: float) -> Array:
    """Return the gradient that a kernel makes of what it is given, first an array of its shape."""
    dx = cupy.empty(given[0].shape, dtype)
    factor = (None, float(dy)) if isinstance(dy, float) else (contiguous(dy, wide_dtype(cupy, dx.dtype)), 0.0)
    launch("element_loss", name, dx, dx.size, *factor, *given, dx, *numbers, dx.size)
    return unpacked(dx)


@register("cupy", "mean_squared_error_forward")
def mean_squared_error_forward(y: Array, t: Array, factor: float) -> tuple[Array, Array]:
    """Return factor/2 times the sum of the squares of y - t, a 0-d array, and y - t; both in at least float32."""
    return _difference("huber", y, t, math.inf, factor)


@register("cupy", "mean_squared_error_backward")
def mean_squared_error_backward(dy: Array | float, difference: Array, factor: float, dtype: Any) -> Array:
    """Return dy * factor * difference in a type; dy is a number, or a 0-d array of the type of the difference."""
    return _gradient("huber_gradient", dy, dtype, (packed(difference),), math.inf, factor)


@register("cupy", "mean_absolute_error_forward")
def mean_absolute_error_forward(y: Array, t: Array) -> tuple[Array, Array]:
    """Return the mean of |y - t|, a 0-d array, and y - t; both in at least float32."""
    return _difference("absolute_error", y, t, 1.0 / y.size)


@register("cupy", "mean_absolute_error_backward")
def mean_absolute_error_backward(dy: Array | float, difference: Array, dtype: Any) -> Array:
    """Return dy times the sign of the difference over the number of elements, in a type; dy as above."""
    return _gradient("absolute_error_gradient", dy, dtype, (packed(difference),), 1.0 / difference.size)


@register("cupy", "huber_forward")
def huber_forward(y: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """Return the mean of the huber loss of y - t, a 0-d array, and y - t; both in at least float32."""
    return _difference("huber", y, t, delta, 1.0 / y.size)


@register("cupy", "huber_backward")
def huber_backward(dy: Array | float, difference: Array, delta: float, dtype: Any) -> Array:
    """Return dy times the difference between -delta and delta over the number of elements, in a type; dy as above."""
    return _gradient("huber_gradient", dy, dtype, (packed(difference),), delta, 1.0 / difference.size)


def _weights(logits: Array, positive_weight: Array | None) -> tuple[Array | None, int, int]:
    """Return the weights, after how many elements of packed logits another one holds, and how many there are."""
    if positive_weight is None:
        return None, 1, 1
    inner = logits.shape[-1] if logits.ndim == 4 else 1
    return contiguous(positive_weight, wide_dtype(cupy, logits.dtype)), inner, positive_weight.size


@register("cupy", "binary_cross_entropy_forward")
def binary_cross_entropy_forward(
    logits: Array, t: Array, positive_weight: Array | None, checked: bool
) -> tuple[Array, Array]:
    """Return the mean cross entropy of sigmoid(logits) and the targets, in at least float32, and targets for backward.

    Targets outside of 0 to 1 are taken for NaN; nobody looks for them where they have been `checked`. The weights are
    in at least float32.
    """
    given = packed(logits)
    loss = _sum("binary_cross_entropy", given, packed(t), *_weights(given, positive_weight), 1.0 / given.size)
    return loss, t  # backward finds what is out of range again


@register("cupy", "binary_cross_entropy_backward")
def binary_cross_entropy_backward(dy: Array | float, logits: Array, t: Array, positive_weight: Array | None) -> Array:
    """Return dy * d loss / d logits, of the type of the logits; dy is a number, or a 0-d array in at least float32."""
    given = packed(logits)
    arguments = (given, packed(t), *_weights(given, positive_weight))
    return _gradient("binary_cross_entropy_gradient", dy, logits.dtype, arguments, 1.0 / given.size)
