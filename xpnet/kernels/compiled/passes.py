"""Batch normalisation, relu, sigmoid, their gradients and Adam by compiled loops: fewer passes over memory."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic.norm import channel_rows, from_rows
from xpnet.kernels.compiled import loader
from xpnet.kernels.compiled.each_element import applied
from xpnet.kernels.compiled.loader import flat
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.numpy import elementwise, norm, optim
from xpnet.kernels.table import register
from xpnet.kernels.team import run_ranges

__all__ = [
    "adam_update",
    "batch_norm_backward",
    "batch_norm_forward",
    "relu_backward",
    "relu_bias_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
]


def _takes(kernel: str, x: np.ndarray) -> bool:
    return loader.takes("_pass_loops", kernel, x)


@register("compiled", "batch_norm_forward")
def batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array | None,
    var: Array | None,
    eps: float,
    rectified: bool,
) -> tuple[Array, Array, Array, Array]:
    """Normalise each channel by the given statistics, or by the batch's where they are None; then relu, if wanted.

    Returns y, mean, biased variance and 1/sqrt(var + eps), the last three (C,) in at least float32.
    """
    if not _takes("batch_norm", x):
        return norm.batch_norm_forward(x, gamma, beta, mean, var, eps, rectified)
    rows = channel_rows(np, x)
    C = rows.shape[0]
    given = mean is not None and var is not None
    mean, var = (np.array(mean), np.array(var)) if given else (np.empty(C, x.dtype), np.empty(C, x.dtype))
    inv_std, y = np.empty(C, x.dtype), np.empty(rows.shape, x.dtype)
    gamma, beta = _vector(gamma, 1.0, mean), _vector(beta, 0.0, mean)
    arguments = (flat(rows), flat(y), gamma, beta, mean, var, inv_std, eps, given, rectified)
    run_ranges(loader.kernel("_pass_loops", "batch_norm", x.dtype), arguments, C, 2 * x.size)
    return from_rows(np, y, x), mean, var, inv_std


@register("compiled", "batch_norm_backward")
def batch_norm_backward(
    dy: Array,
    x: Array,
    y: Array | None,
    gamma: Array | None,
    mean: Array,
    inv_std: Array,
    train: bool,
    overwrite: bool,
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta; with `train` the statistics depend on x and pass gradient too.

    `y` is the output if it ended in relu, else None. With `overwrite`, a library may put dx where dy is.
    """
    if not _takes("batch_norm_gradient", x):
        return norm.batch_norm_backward(dy, x, y, gamma, mean, inv_std, train, overwrite)
    dy_rows, rows = channel_rows(np, dy), channel_rows(np, x)
    top = rows if y is None else channel_rows(np, y)
    slopes = flat(dy_rows)
    dx = slopes if overwrite else np.empty_like(slopes)
    dgamma, dbeta = np.empty_like(mean), np.empty_like(mean)
    vectors = (_vector(gamma, 1.0, mean), flat(mean), flat(inv_std), dgamma, dbeta)
    kernel = loader.kernel("_pass_loops", "batch_norm_gradient", x.dtype)
    arrays = (slopes, flat(rows), flat(top), dx)
    run_ranges(kernel, (*arrays, *vectors, train, y is not None, overwrite), rows.shape[0], 2 * x.size)
    return from_rows(np, dx.reshape(rows.shape), x), dgamma, dbeta


def _vector(values: np.ndarray | None, default: float, like: np.ndarray) -> np.ndarray:
    """Return one number for each channel, contiguous."""
    return np.full_like(like, default) if values is None else flat(values)


@register("compiled", "relu_backward")
def relu_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy where y > 0, else 0; with `overwrite`, where dy is."""
    return relu_bias_backward(dy, y, False, overwrite)[0]


@register("compiled", "relu_bias_backward")
def relu_bias_backward(dy: Array, y: Array, need_db: bool, overwrite: bool) -> tuple[Array, Array | None]:
    """Return dx = dy where y > 0, else 0, and if needed its sum over all axes but the second: that of a bias.

    With `overwrite`, dx may be where dy is.
    """
    if dy.ndim != 4 or not _takes("relu_gradient", dy):
        return elementwise.relu_bias_backward(dy, y, need_db, overwrite)
    given, top = batch_innermost(np, dy), batch_innermost(np, y)
    slopes, db = flat(given), np.empty(len(given), dy.dtype)
    dx = slopes if overwrite else np.empty_like(slopes)
    arrays = (slopes, flat(top), dx, db, overwrite)
    run_ranges(loader.kernel("_pass_loops", "relu_gradient", dy.dtype), arrays, len(given), 2 * dy.size)
    return batch_first(np, dx.reshape(given.shape)), db if need_db else None


@register("compiled", "relu_forward")
def relu_forward(x: Array, overwrite: bool) -> Array:
    """max(x, 0); with `overwrite`, it may be where x is."""
    y = applied("_pass_loops", "relu", (x,), 2, overwrite)
    return elementwise.relu_forward(x, overwrite) if y is None else y


@register("compiled", "sigmoid_forward")
def sigmoid_forward(x: Array, overwrite: bool) -> Array:
    """1 / (1 + exp(-x)); with `overwrite`, it may be where x is."""
    y = applied("_pass_loops", "sigmoid", (x,), 4, overwrite)
    return elementwise.sigmoid_forward(x, overwrite) if y is None else y


@register("compiled", "sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array, overwrite: bool) -> Array:
    """Return dy * y * (1 - y); with `overwrite`, it may be where dy is."""
    dx = applied("_pass_loops", "sigmoid_gradient", (dy, y), 2, overwrite)
    return elementwise.sigmoid_backward(dy, y, overwrite) if dx is None else dx


@register("compiled", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float | Array, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    alike = np.ndim(lr) == 0 and all(a.flags.c_contiguous for a in (w, g, m, v))
    if not alike or not _takes("adam", w):
        optim.adam_update(w, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)
        return
    numbers = (float(lr / (1.0 - beta1**step)), beta1, beta2, eps, (1.0 - beta2**step) ** -0.5)
    arrays = (w.reshape(-1), flat(g), m.reshape(-1), v.reshape(-1))
    run_ranges(loader.kernel("_pass_loops", "adam", w.dtype), (*arrays, *numbers), w.size, 4 * w.size)
