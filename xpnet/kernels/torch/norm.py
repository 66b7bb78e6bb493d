"""Batch normalisation by torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic import norm
from xpnet.kernels.agnostic.norm import Normalised
from xpnet.kernels.table import register
from xpnet.kernels.torch.activation import relu_backward
from xpnet.kernels.torch.images import images

__all__ = ["batch_norm_backward", "batch_norm_forward", "batch_norm_training", "normalised_weights"]

_backward = torch.ops.aten.native_batch_norm_backward.default


def _wide(x: Array, a: Array | None) -> Array | None:
    """Return a number a channel as torch takes it: in the type of the statistics, without gaps."""
    if a is None or (a.dtype == torch.float32 == x.dtype and a.is_contiguous()):
        return a
    return a.to(wide_dtype(torch, x.dtype)).contiguous()


def _on_numpy(*arrays: Array | None) -> Iterator[Any]:
    """Yield arrays as NumPy sees them, in the same memory; see `_suit_numpy`.

    On a number a channel NumPy takes a microsecond, torch ten and more: together as long as normalising.
    """
    for a in arrays:
        yield None if a is None else a.numpy()


def _suit_numpy(*arrays: Array | None) -> bool:
    """Whether all arrays are on the host, and autograd, which a user may have asked to, follows none."""
    return all(a is None or (a.device.type == "cpu" and not a.requires_grad) for a in arrays)


def _loses_digits(mean: Array, inv_std: Array) -> bool:
    """Whether the means are so far from 0 that torch, which on the CPU computes a * x + b, loses digits."""
    if mean.is_cuda:
        return False
    if not _suit_numpy(mean, inv_std):
        return norm.is_far_from_zero(mean, inv_std)
    middle, scale = _on_numpy(mean, inv_std)
    distances = middle * scale
    if distances.dot(distances) <= norm.FAR**2:  # their maximum is no larger, nor asked for as fast
        return False
    return norm.is_far_from_zero(middle, scale)


@register("torch", "normalised_weights")
def normalised_weights(pairs: Sequence[Normalised]) -> list[tuple[Array, Array] | None]:
    """Return weights and bias of each pair, all of one float type, as one convolution.

    None where the means are far from 0: that would lose digits.
    """
    if not all(_suit_numpy(*pair[:-1]) for pair in pairs):
        return norm.normalised_weights(pairs)
    on_numpy = []
    for W, *numbers, eps in pairs:
        W, b, gamma, beta, mean, var = _on_numpy(W.permute(0, 2, 3, 1), *numbers)
        on_numpy.append(Normalised(W, b, gamma, beta, mean, var, eps))
    made = norm.normalised_weights(on_numpy)
    return [one and (torch.from_numpy(one[0]).permute(0, 3, 1, 2), torch.from_numpy(one[1])) for one in made]


@register("torch", "batch_norm_forward")
def batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    rectified: bool,
) -> tuple[Array, Array, Array, Array]:
    """Normalise each channel by the given statistics; then relu, if wanted. Those of the batch: `batch_norm_training`.

    Returns y, mean, biased variance and 1/sqrt(var + eps), the last three (C,) in at least float32.
    """
    image, gamma, beta = images(x) if x.ndim == 4 else x, _wide(x, gamma), _wide(x, beta)
    mean, var = mean.contiguous(), var.contiguous()
    y, inv_std = torch.native_batch_norm(image, gamma, beta, mean, var, False, 0.0, eps)[0], torch.rsqrt(var + eps)
    if _loses_digits(mean, inv_std):
        y = torch.native_batch_norm(_centred(image, mean), gamma, beta, torch.zeros_like(mean), var, False, 0.0, eps)[0]
    return torch.relu_(y) if rectified else y, mean, var, inv_std


@register("torch", "batch_norm_training")
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
    image, gamma, beta = images(x) if x.ndim == 4 else x, _wide(x, gamma), _wide(x, beta)
    new_mean, new_var = running_mean.clone(), running_var.clone()  # torch writes into them
    y, mean, inv_std = torch.native_batch_norm(image, gamma, beta, new_mean, new_var, True, momentum, eps)
    if _loses_digits(mean, inv_std):
        image, new_mean, new_var = _centred(image, mean), running_mean - mean, running_var.clone()
        y, rest, inv_std = torch.native_batch_norm(image, gamma, beta, new_mean, new_var, True, momentum, eps)
        new_mean, mean = new_mean + mean, mean + rest
    return torch.relu_(y) if rectified else y, mean, inv_std, new_mean, new_var


def _centred(x: Array, mean: Array) -> Array:
    return x - mean.to(x.dtype).view(-1, *(1,) * (x.ndim - 2))


@register("torch", "batch_norm_backward")
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
    if y is not None:
        dy = relu_backward(dy, y, overwrite)
    if x.ndim == 4:
        dy, x = images(dy), images(x)
    weight = torch.ones_like(mean) if gamma is None else _wide(x, gamma)
    if train:
        statistics = (None, None, mean, inv_std)
    else:
        statistics = (mean, inv_std**-2.0, None, None)
    dx, dgamma, dbeta = _backward(dy, x, weight, *statistics, train, 0.0, [True, True, True])
    return dx, dgamma.to(dy.dtype), dbeta.to(dy.dtype)
