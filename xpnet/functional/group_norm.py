"""Normalisation of each sample by itself: over all of it (layer), groups of channels, or one channel (instance)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, array_namespace
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find

__all__ = [
    "GroupNormCtx",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
]


class GroupNormCtx(NamedTuple):
    """Kept for backward: the input itself and two numbers a group and sample (in at least float32)."""

    x: Array  # (N, ...)
    gamma: Array | None
    beta_shape: tuple[int, ...] | None
    mean: Array  # (groups, 1, 1, N)
    inv_std: Array  # (groups, 1, 1, N)
    groups: int
    scales: int  # values of gamma and beta in a group


def layer_norm_forward(
    x: Array, gamma: Array | None, beta: Array | None, *, eps: float = 1e-5
) -> tuple[Array, GroupNormCtx]:
    r"""Normalise each sample, over all its axes, to mean 0 and variance 1; then scale and shift each value.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean and the (biased) variance of the sample. Training and inference are the same.

    Parameters
    ----------
    x : array (N, ...), float
        At least two axes, and two values a sample.
    gamma, beta : array (...), shape of a sample and type of `x`, or None
        None leaves out the scale or the shift.
    eps : float, default 1e-5

    Returns
    -------
    y : array, shape and type of `x`
    ctx : GroupNormCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit, or a sample has just one value.
    ArgumentError
        If eps is not above 0.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Ba, Kiros and Hinton, arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import layer_norm_forward
    >>> y, ctx = layer_norm_forward(np.array([[1.0, 3.0], [10.0, 30.0]]), None, np.array([0.0, 5.0]))
    >>> np.round(y, 3)
    array([[-1.,  6.],
           [-1.,  6.]])
    """
    xp = check_arrays("layer_norm", x=x, gamma=gamma, beta=beta)
    sample = tuple(x.shape[1:])
    _check("layer_norm", x, gamma, beta, sample, "the shape of a sample", eps)
    return _forward("layer_norm", xp, x, gamma, beta, 1, math.prod(sample), eps)


def layer_norm_backward(dy: Array, ctx: GroupNormCtx) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of layer normalisation.

    .. math::
        d\gamma = \sum_n dy\,\hat x, \quad d\beta = \sum_n dy, \quad
        dx = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
             (g - \overline{g} - \hat x\,\overline{g \hat x}), \quad g = \gamma\,dy

    where the bars are means over the sample.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : GroupNormCtx

    Returns
    -------
    dx : array, shape of x
    dgamma, dbeta : array (...), shape of a sample, or None where there was none

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import layer_norm_backward, layer_norm_forward
    >>> y, ctx = layer_norm_forward(np.array([[1.0, 3.0]]), None, np.zeros(2))
    >>> layer_norm_backward(np.ones((1, 2)), ctx)
    (array([[0., 0.]]), None, array([1., 1.]))
    """
    return _backward("layer_norm_backward", dy, ctx)


def group_norm_forward(
    x: Array, gamma: Array | None, beta: Array | None, *, groups: int, eps: float = 1e-5
) -> tuple[Array, GroupNormCtx]:
    r"""Normalise each group of channels of each sample to mean 0 and variance 1; scale and shift each channel.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean and the (biased) variance of the group's channels and pixels. What a sample becomes
    does not depend on its batch; training and inference are the same.

    Parameters
    ----------
    x : array (N, C) or (N, C, ...), float
    gamma, beta : array (C,), the type of `x`, or None
        None leaves out the scale or the shift.
    groups : int
        Divides C; neighbouring channels form a group.
    eps : float, default 1e-5

    Returns
    -------
    y : array, shape and type of `x`
    ctx : GroupNormCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit, or a group has just one value.
    ArgumentError
        If groups does not divide the channels, or eps is not above 0.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Wu and He, arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import group_norm_forward
    >>> y, ctx = group_norm_forward(np.array([[1.0, 3.0, 10.0, 30.0]]), None, None, groups=2)
    >>> np.round(y, 3)
    array([[-1.,  1., -1.,  1.]])
    """
    xp = check_arrays("group_norm", x=x, gamma=gamma, beta=beta)
    return _channel_groups("group_norm", xp, x, gamma, beta, groups, eps)


def group_norm_backward(dy: Array, ctx: GroupNormCtx) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of group normalisation.

    .. math::
        d\gamma = \sum dy\,\hat x, \quad d\beta = \sum dy, \quad
        dx = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
             (g - \overline{g} - \hat x\,\overline{g \hat x}), \quad g = \gamma\,dy

    where the bars are means over the group of a sample, the sums over the batch and a channel's pixels.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : GroupNormCtx

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
    >>> from xpnet.functional import group_norm_backward, group_norm_forward
    >>> y, ctx = group_norm_forward(np.array([[1.0, 3.0, 10.0, 30.0]]), None, np.zeros(4), groups=2)
    >>> dx, dgamma, dbeta = group_norm_backward(np.ones((1, 4)), ctx)
    >>> dx, dgamma, dbeta
    (array([[0., 0., 0., 0.]]), None, array([1., 1., 1., 1.]))
    """
    return _backward("group_norm_backward", dy, ctx)


def instance_norm_forward(
    x: Array, gamma: Array | None, beta: Array | None, *, eps: float = 1e-5
) -> tuple[Array, GroupNormCtx]:
    """Normalise each channel of each image to mean 0 and variance 1; then scale and shift each channel.

    Group normalisation with as many groups as channels.

    Parameters
    ----------
    x : array (N, C, ...), float
        At least two pixels a channel.
    gamma, beta : array (C,), the type of `x`, or None
        None leaves out the scale or the shift.
    eps : float, default 1e-5

    Returns
    -------
    y : array, shape and type of `x`
    ctx : GroupNormCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit, or a channel has just one pixel.
    ArgumentError
        If eps is not above 0.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import instance_norm_forward
    >>> y, ctx = instance_norm_forward(np.array([[[[1.0, 3.0]], [[10.0, 30.0]]]]), None, None)
    >>> np.round(y, 3).tolist()
    [[[[-1.0, 1.0]], [[-1.0, 1.0]]]]
    """
    xp = check_arrays("instance_norm", x=x, gamma=gamma, beta=beta)
    groups = x.shape[1] if len(x.shape) > 1 else 1
    return _channel_groups("instance_norm", xp, x, gamma, beta, groups, eps)


def instance_norm_backward(dy: Array, ctx: GroupNormCtx) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of instance normalisation: those of group normalisation, a channel a group.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : GroupNormCtx

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
    >>> from xpnet.functional import instance_norm_backward, instance_norm_forward
    >>> y, ctx = instance_norm_forward(np.array([[[[1.0, 3.0]]]]), None, np.zeros(1))
    >>> instance_norm_backward(np.ones((1, 1, 1, 2)), ctx)
    (array([[[[0., 0.]]]]), None, array([2.]))
    """
    return _backward("instance_norm_backward", dy, ctx)


def _channel_groups(
    operation: str, xp: Any, x: Array, gamma: Array | None, beta: Array | None, groups: int, eps: float
) -> tuple[Array, GroupNormCtx]:
    C = x.shape[1] if len(x.shape) > 1 else 0
    _check(operation, x, gamma, beta, (C,), "(C,)", eps)
    if not isinstance(groups, int) or groups < 1 or C % groups:
        raise ArgumentError(operation, f"groups must divide the {C} channels of x, got {groups!r}")
    return _forward(operation, xp, x, gamma, beta, groups, C // groups, eps)


def _check(
    operation: str,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    expected: tuple[int, ...],
    described: str,
    eps: float,
) -> None:
    if len(x.shape) < 2 or 0 in x.shape:
        axes = "(N, ...)" if operation == "layer_norm" else "(N, C, ...)"
        raise ShapeError(operation, f"x must be {axes}, none empty, got shape {tuple(x.shape)}")
    for name, a in (("gamma", gamma), ("beta", beta)):
        if a is not None and tuple(a.shape) != expected:
            raise ShapeError(
                operation,
                f"{name} must have {'shape ' if described == '(C,)' else ''}{described} = {expected} "
                f"for x.shape={tuple(x.shape)}, got {tuple(a.shape)}",
            )
    if not eps > 0.0:
        raise ArgumentError(operation, f"eps must be above 0, got {eps!r}")


def _forward(
    operation: str,
    xp: Any,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    groups: int,
    scales: int,
    eps: float,
) -> tuple[Array, GroupNormCtx]:
    if math.prod(x.shape[1:]) == groups:
        raise ShapeError(
            operation,
            f"one value to normalise has no variance (x.shape={tuple(x.shape)}, {groups} group(s) a sample); "
            "take fewer groups or larger images",
        )
    y, mean, inv_std = find("group_norm_forward", xp)(x, gamma, beta, groups, scales, eps)
    beta_shape = None if beta is None else tuple(beta.shape)
    return y, GroupNormCtx(x, gamma, beta_shape, mean, inv_std, groups, scales)


def _backward(operation: str, dy: Array, ctx: GroupNormCtx) -> tuple[Array, Array | None, Array | None]:
    check_gradient(operation, dy, ctx.x, tuple(ctx.x.shape))
    xp = array_namespace(dy)
    backward = find("group_norm_backward", xp)
    need_affine = ctx.gamma is not None or ctx.beta_shape is not None
    dx, dgamma, dbeta = backward(dy, ctx.x, ctx.gamma, ctx.mean, ctx.inv_std, ctx.groups, ctx.scales, need_affine)
    return (
        dx,
        None if ctx.gamma is None else xp.reshape(dgamma, tuple(ctx.gamma.shape)),
        None if ctx.beta_shape is None else xp.reshape(dbeta, ctx.beta_shape),
    )
