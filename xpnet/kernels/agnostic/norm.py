"""Batch normalisation over rows of a (C, L) matrix: one row per channel, contiguous in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpnet.backend import Array, array_namespace, wide_dtype
from xpnet.kernels.layout import batch_first, batch_innermost
from xpnet.kernels.table import find, register

__all__ = [
    "Normalised",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_training",
    "channel_rows",
    "from_rows",
    "is_far_from_zero",
    "normalised_weights",
    "running_statistics",
]


FAR = 32.0  # standard deviations


def channel_rows(xp: Any, x: Array) -> Array:
    """Return x (N, C, ...) as (C, L) in at least float32."""
    inner = batch_innermost(xp, x)
    wide = xp.astype(inner, wide_dtype(xp, x.dtype), copy=False)
    return xp.reshape(wide, (wide.shape[0], math.prod(wide.shape[1:])))


def is_far_from_zero(mean: Array, inv_std: Array) -> bool:
    """Whether a * x + b would lose digits that (x - mean) * scale + beta keeps; waits for the arrays' device."""
    return bool(array_namespace(mean).max(abs(mean) * inv_std) > FAR)


class Normalised(NamedTuple):
    """A convolution and the batch normalisation after it: gamma (conv(x, W, b) - mean) / sqrt(var + eps) + beta."""

    W: Array  # (F, C, KH, KW)
    b: Array | None  # (F,), as all that follow
    gamma: Array | None
    beta: Array | None
    mean: Array
    var: Array
    eps: float


@register("agnostic", "normalised_weights")
def normalised_weights(pairs: Sequence[Normalised]) -> list[tuple[Array, Array] | None]:
    """Return weights and bias of each pair, all of one float type, as one convolution.

    None where the means are far from 0: that would lose digits. Numbers of filters are worked out for all at once.
    """
    xp = array_namespace(pairs[0].W)
    mean = xp.concat([pair.mean for pair in pairs])
    scale = 1.0 / xp.sqrt(xp.concat([pair.var + pair.eps for pair in pairs]))
    if is_far_from_zero(mean, scale):
        return [None] if len(pairs) == 1 else [normalised_weights([pair])[0] for pair in pairs]
    scale = scale * xp.concat([xp.ones_like(pair.mean) if pair.gamma is None else pair.gamma for pair in pairs])
    shift = -scale * xp.concat([pair.mean if pair.b is None else pair.mean - pair.b for pair in pairs])
    made: list[tuple[Array, Array] | None] = []
    start = 0
    for pair in pairs:
        own = slice(start, start + pair.W.shape[0])
        W = pair.W * xp.reshape(scale[own], (-1, 1, 1, 1))
        made.append((W, shift[own] if pair.beta is None else shift[own] + pair.beta))
        start = own.stop
    return made


def from_rows(xp: Any, rows: Array, like: Array) -> Array:
    """Return rows (C, L) as (N, C, ...) in the shape and type of `like`."""
    shape = tuple(like.shape)
    return batch_first(xp, xp.reshape(xp.astype(rows, like.dtype, copy=False), (*shape[1:], shape[0])))


@register("agnostic", "batch_norm_forward")
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
    xp = array_namespace(x)
    rows = channel_rows(xp, x)
    if mean is None or var is None:
        mean = xp.mean(rows, axis=1)
        centred = rows - mean[:, None]
        rest = xp.mean(centred, axis=1)  # what rounding left in the mean of numbers far from 0
        centred -= rest[:, None]
        mean = mean + rest
        var = xp.mean(centred * centred, axis=1)
    else:
        centred = rows - mean[:, None]
    inv_std = 1.0 / xp.sqrt(var + eps)
    scale = inv_std if gamma is None else inv_std * xp.astype(gamma, inv_std.dtype, copy=False)
    centred *= scale[:, None]
    if beta is not None:
        centred += xp.astype(beta, inv_std.dtype, copy=False)[:, None]
    if rectified:
        centred = xp.maximum(centred, 0.0)
    return from_rows(xp, centred, x), mean, var, inv_std


@register("agnostic", "batch_norm_training")
def batch_norm_training(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
    rectified: bool,
) -> tuple[Array, Array, Array, Array, Array]:
    """Normalise each channel by the batch's statistics; then relu, if wanted.

    Returns y, mean, 1/sqrt(var + eps), and the running mean and variance after the batch: new arrays.
    """
    xp = array_namespace(x)
    y, mean, var, inv_std = find("batch_norm_forward", xp)(x, gamma, beta, None, None, eps, rectified)
    count = math.prod(x.shape) // x.shape[1]
    update = find("running_statistics", xp)
    return y, mean, inv_std, *update(mean, var, running_mean, running_var, momentum, count / (count - 1))


@register("agnostic", "running_statistics")
def running_statistics(
    mean: Array, var: Array, running_mean: Array, running_var: Array, momentum: float, correction: float
) -> tuple[Array, Array]:
    """Return the running mean and variance after a batch; `correction` makes its variance the unbiased one."""
    return (
        (1.0 - momentum) * running_mean + momentum * mean,
        (1.0 - momentum) * running_var + momentum * (var * correction),
    )


@register("agnostic", "batch_norm_backward")
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
    xp = array_namespace(dy)
    dy_rows = channel_rows(xp, dy if y is None else find("relu_backward", xp)(dy, y, False))
    xhat = (channel_rows(xp, x) - mean[:, None]) * inv_std[:, None]
    dgamma = xp.sum(dy_rows * xhat, axis=1)
    dbeta = xp.sum(dy_rows, axis=1)
    scale = inv_std if gamma is None else inv_std * xp.astype(gamma, inv_std.dtype, copy=False)
    if train:
        L = dy_rows.shape[1]
        xhat *= (dgamma / -L)[:, None]
        xhat -= (dbeta / L)[:, None]
        xhat += dy_rows
        xhat *= scale[:, None]
        dx = xhat
    else:
        dx = dy_rows * scale[:, None]
    return (
        from_rows(xp, dx, x),
        xp.astype(dgamma, dy.dtype, copy=False),
        xp.astype(dbeta, dy.dtype, copy=False),
    )
