"""Relu, sigmoid, their gradients, and sums for NumPy, some channels at a time."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import activation
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy.pool import by_channels
from xpnet.kernels.table import register

__all__ = [
    "add",
    "add_relu",
    "relu_backward",
    "relu_bias_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
]


@register("numpy", "add")
def add(a: Array, b: Array, overwrite: bool) -> Array:
    """Return a + b of arrays of one shape; with `overwrite`, it may be where a is."""
    return _sum(a, b, overwrite, False)


@register("numpy", "add_relu")
def add_relu(a: Array, b: Array, overwrite: bool) -> Array:
    """Return relu(a + b) of arrays of one shape; with `overwrite`, it may be where a is."""
    return _sum(a, b, overwrite, True)


def _sum(a: np.ndarray, b: np.ndarray, overwrite: bool, rectified: bool) -> np.ndarray:
    if a.ndim != 4 or not a.size:
        return relu_forward(a + b, True) if rectified else a + b
    first, second = batch_innermost(np, a), batch_innermost(np, b)
    y = first if overwrite else np.empty_like(first)

    def add_up(part: slice) -> None:
        block = np.add(first[part], second[part], out=y[part])
        if rectified:
            np.maximum(block, 0.0, out=block)  # while it is in cache

    by_channels(add_up, first)
    return batch_first(np, y)


@register("numpy", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, where x is."""
    if x.ndim != 4 or not x.size or x.dtype.char not in "fd":
        return np.maximum(x, 0.0, out=x) if overwrite and x.ndim else activation.relu_forward(x, False)
    inner = batch_innermost(np, x)
    y = inner if overwrite else np.empty_like(inner)
    by_channels(lambda part: np.maximum(inner[part], 0.0, out=y[part]), inner)
    return batch_first(np, y)


@register("numpy", "relu_backward")
def relu_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy where y > 0, else 0; with `overwrite`, it may be where dy is."""
    return relu_bias_backward(dy, y, False, overwrite)[0]


@register("numpy", "relu_bias_backward")
def relu_bias_backward(dy: Array, y: Array, need_db: bool, overwrite: bool) -> tuple[Array, Array | None]:
    """Return dx = dy where y > 0, else 0, and if needed its sum over all axes but the second: that of a bias.

    With `overwrite`, dx may be where dy is: it is if dy holds float32 or float64 images that lie batch-innermost.
    """
    if dy.ndim != 4 or dy.dtype.char not in "fd" or not dy.size:
        dx = activation.relu_backward(dy, y, False)
        axes = (0, *range(2, dy.ndim))
        return dx, dx.sum(axis=axes, dtype=wide_dtype(np, dx.dtype)).astype(dx.dtype) if need_db else None
    given, top = batch_innermost(np, dy), batch_innermost(np, y)
    dx = given if overwrite else np.empty_like(given)
    db = np.empty(len(given), dtype=dy.dtype) if need_db else None
    ones = np.ones(given[0].size, dtype=dy.dtype)

    def clip(part: slice) -> None:
        block = dx[part]
        np.multiply(given[part], top[part] > 0.0, out=block)
        if db is not None:
            np.matmul(block.reshape(len(block), -1), ones, out=db[part])  # while it is in cache

    by_channels(clip, given, products=need_db)
    return batch_first(np, dx), db


@register("numpy", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, it may be where x is."""
    if x.ndim != 4 or x.dtype.char not in "fd" or not x.size:
        return activation.sigmoid_forward(x, False)
    inner, lowest = batch_innermost(np, x), activation.lowest_exponent(np, x.dtype)
    y = inner if overwrite else np.empty_like(inner)

    def squash(part: slice) -> None:
        block = np.maximum(inner[part], lowest, out=y[part])
        np.negative(block, out=block)
        np.exp(block, out=block)
        block += 1.0
        np.divide(1.0, block, out=block)

    by_channels(squash, inner)
    return batch_first(np, y)


@register("numpy", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * y * (1 - y); with `overwrite`, it may be where dy is."""
    if dy.ndim != 4 or dy.dtype.char not in "fd" or not dy.size:
        return activation.sigmoid_backward(dy, y, False)
    given, top = batch_innermost(np, dy), batch_innermost(np, y)
    dx = given if overwrite else np.empty_like(given)

    def multiply(part: slice) -> None:
        slope = 1.0 - top[part]
        slope *= top[part]
        np.multiply(given[part], slope, out=dx[part])

    by_channels(multiply, given)
    return batch_first(np, dx)
