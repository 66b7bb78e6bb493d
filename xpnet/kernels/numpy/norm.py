"""Batch normalisation for NumPy, some channels at a time: memory is read once, all further passes are in cache."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.kernels.agnostic import norm
from xpnet.kernels.agnostic.norm import channel_rows, from_rows
from xpnet.kernels.numpy.pool import by_channels
from xpnet.kernels.table import register

__all__ = ["batch_norm_backward", "batch_norm_forward"]


@register("numpy", "batch_norm_forward")
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
    if x.dtype.char not in "fd":
        return norm.batch_norm_forward(x, gamma, beta, mean, var, eps, rectified)
    rows = channel_rows(np, x)
    C, L = rows.shape
    given = mean is not None and var is not None
    mean, var = (np.array(mean), np.array(var)) if given else (np.empty(C, x.dtype), np.empty(C, x.dtype))
    inv_std, y = np.empty(C, x.dtype), np.empty_like(rows)
    ones = np.ones(L, dtype=x.dtype)

    def normalise(part: slice) -> None:
        block = y[part]
        if given:
            np.subtract(rows[part], mean[part, None], out=block)
        else:
            mean[part] = rows[part] @ ones  # the same sum by BLAS takes a tenth of the time
            mean[part] /= L
            np.subtract(rows[part], mean[part, None], out=block)
            rest = block @ ones  # what rounding left in the mean of numbers far from 0
            rest /= L
            mean[part] += rest
            block -= rest[:, None]
            var[part] = np.einsum("ij,ij->i", block, block)
            var[part] /= L
        inv_std[part] = 1.0 / np.sqrt(var[part] + eps)
        block *= (inv_std[part] if gamma is None else inv_std[part] * gamma[part])[:, None]
        if beta is not None:
            block += beta[part, None]
        if rectified:
            np.maximum(block, 0.0, out=block)

    by_channels(normalise, rows, products=True)
    return from_rows(np, y, x), mean, var, inv_std


@register("numpy", "batch_norm_backward")
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
    if x.dtype.char not in "fd":
        return norm.batch_norm_backward(dy, x, y, gamma, mean, inv_std, train, overwrite)
    dy_rows, rows = channel_rows(np, dy), channel_rows(np, x)
    top = None if y is None else channel_rows(np, y)
    C, L = rows.shape
    dgamma, dbeta, dx = np.empty(C, x.dtype), np.empty(C, x.dtype), dy_rows if overwrite else np.empty_like(rows)
    scale = inv_std if gamma is None else inv_std * gamma
    ones = np.ones(L, dtype=x.dtype)

    def add_up(part: slice) -> None:
        given, block = dy_rows[part], dx[part]
        if top is not None:
            given = given * (top[part] > 0.0)
        centred = rows[part] - mean[part, None]
        dbeta[part] = given @ ones
        dgamma[part] = np.einsum("ij,ij->i", given, centred)
        dgamma[part] *= inv_std[part]
        np.multiply(given, scale[part, None], out=block)
        if train:
            centred *= (scale[part] * inv_std[part] * dgamma[part] / L)[:, None]
            block -= centred
            block -= (scale[part] * dbeta[part] / L)[:, None]

    by_channels(add_up, rows, products=True)
    return from_rows(np, dx, x), dgamma, dbeta
