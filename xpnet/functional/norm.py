"""Batch normalisation of images (per channel) and of features (per column)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, device_of, is_half
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, is_relu
from xpnet.kernels import find

__all__ = [
    "BatchNormCtx",
    "batch_norm_backward",
    "batch_norm_backward_of_new",
    "batch_norm_forward",
    "check_batch_norm",
    "check_batch_norm_settings",
]


PER_CHANNEL = ("gamma", "beta", "running_mean", "running_var")


class BatchNormCtx(NamedTuple):
    """Kept for backward: the input itself and two numbers a channel (in at least float32); with relu the output."""

    x: Array  # (N, C) or (N, C, H, W)
    gamma: Array | None
    has_beta: bool
    mean: Array  # (C,)
    inv_std: Array  # (C,)
    train: bool
    y: Array | None = None  # the output itself; only with relu


def batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    train: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
) -> tuple[Array, BatchNormCtx, Array, Array]:
    r"""Normalise each channel to mean 0 and variance 1, then scale by gamma and shift by beta.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In training, mean and (biased) variance are those of the batch over all axes but the channel's; in
    inference, the running ones. ``running = (1 - momentum) * running + momentum * batch``, where the
    running variance takes the unbiased estimate of the batch.

    Parameters
    ----------
    x : array (N, C) or (N, C, H, W), float
    gamma, beta : array (C,), the type of `x`, or None
        None leaves out the scale or the shift.
    running_mean, running_var : array (C,)
        Not changed; of the type of `x`, or float32 for the half types.
    train : bool
    momentum : float, default 0.1
        Weight of the new batch in the running statistics.
    eps : float, default 1e-5
    activation : {None, "relu"}, default None
        ``"relu"``: y is the relu of it, in fewer passes over memory than by `relu_forward`.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : BatchNormCtx
    running_mean, running_var : array (C,)
        New arrays in training; the given ones in inference.

    Raises
    ------
    ShapeError
        If the shapes do not fit, or a training batch has just one value per channel.
    ArgumentError
        If momentum or eps is out of range, or the activation is another.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Ioffe and Szegedy, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import batch_norm_forward
    >>> x = np.array([[1.0], [3.0]])
    >>> y, ctx, mean, var = batch_norm_forward(x, None, None, np.zeros(1), np.ones(1), train=True, eps=1e-12)
    >>> y
    array([[-1.],
           [ 1.]])
    >>> mean, var
    (array([0.2]), array([1.1]))
    """
    xp = check_batch_norm(x, gamma, beta, running_mean, running_var, momentum=momentum, eps=eps)
    if train and math.prod(x.shape) == x.shape[1]:
        raise ShapeError(
            "batch_norm",
            f"one value per channel has no variance (x.shape={tuple(x.shape)}); train with a larger batch, "
            "or leave out a last batch of one sample with Loader(..., drop_last=True)",
        )
    rectified = is_relu("batch_norm", activation)
    given: Any = (x, gamma, beta, running_mean, running_var)
    if train:
        forward = find("batch_norm_training", xp)
        y, mean, inv_std, running_mean, running_var = forward(*given, momentum, eps, rectified)
    else:
        y, mean, _, inv_std = find("batch_norm_forward", xp)(*given, eps, rectified)
    ctx = BatchNormCtx(x, gamma, beta is not None, mean, inv_std, train, y if rectified else None)
    return y, ctx, running_mean, running_var


def batch_norm_backward(dy: Array, ctx: BatchNormCtx) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of batch normalisation.

    .. math::
        d\gamma = \sum dy\,\hat x, \quad d\beta = \sum dy, \quad
        dx = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} (dy - d\beta / L - \hat x\, d\gamma / L)

    with L values a channel; after an inference forward the statistics are constants and the last two
    terms of dx vanish.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : BatchNormCtx

    Returns
    -------
    dx : array, shape of x
    dgamma, dbeta : array (C,), or None where there was none

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import batch_norm_backward, batch_norm_forward
    >>> x = np.array([[1.0], [3.0]])
    >>> y, ctx, *_ = batch_norm_forward(x, np.ones(1), np.zeros(1), np.zeros(1), np.ones(1), train=True)
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [1.0]]), ctx)
    >>> dx, dbeta
    (array([[0.],
           [0.]]), array([2.]))
    """
    return _gradients(dy, ctx, False)


def batch_norm_backward_of_new(dy: Array, ctx: BatchNormCtx) -> tuple[Array, Array | None, Array | None]:
    """As `batch_norm_backward`, of a dy that nobody else keeps: its memory may be used for dx."""
    return _gradients(dy, ctx, True)


def _gradients(dy: Array, ctx: BatchNormCtx, overwrite: bool) -> tuple[Array, Array | None, Array | None]:
    xp = check_gradient("batch_norm_backward", dy, ctx.x, tuple(ctx.x.shape))
    backward = find("batch_norm_backward", xp)
    dx, dgamma, dbeta = backward(dy, ctx.x, ctx.y, ctx.gamma, ctx.mean, ctx.inv_std, ctx.train, overwrite)
    return dx, None if ctx.gamma is None else dgamma, dbeta if ctx.has_beta else None


def check_batch_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    momentum: float,
    eps: float,
) -> Any:
    """Check the arguments of `batch_norm_forward`; return the namespace."""
    xp = check_arrays("batch_norm", x=x, gamma=gamma, beta=beta)
    if len(x.shape) not in (2, 4) or 0 in x.shape:
        raise ShapeError("batch_norm", f"x must be (N, C) or (N, C, H, W), none empty, got shape {tuple(x.shape)}")
    statistics = x
    if is_half(xp, x.dtype):
        statistics = xp.empty((0,), dtype=xp.float32, device=device_of(x))
    check_arrays("batch_norm", statistics=statistics, running_mean=running_mean, running_var=running_var)
    C = x.shape[1]
    for name, a in zip(PER_CHANNEL, (gamma, beta, running_mean, running_var), strict=True):
        if a is not None and tuple(a.shape) != (C,):
            raise ShapeError(
                "batch_norm",
                f"{name} must have shape (C,) = ({C},) for x.shape={tuple(x.shape)}, got {tuple(a.shape)}",
            )
    check_batch_norm_settings("batch_norm", momentum, eps)
    return xp


def check_batch_norm_settings(operation: str, momentum: float, eps: float) -> None:
    """Refuse a momentum that is no weight, or an eps that would divide by zero."""
    if not 0.0 <= momentum <= 1.0:
        raise ArgumentError(operation, f"momentum must be between 0 and 1, got {momentum!r}")
    if not eps > 0.0:
        raise ArgumentError(operation, f"eps must be above 0, got {eps!r}")
