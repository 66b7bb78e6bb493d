"""Local response normalisation: channels at one pixel restrain their neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find

__all__ = ["LocalResponseNormCtx", "local_response_norm_backward", "local_response_norm_forward"]


class LocalResponseNormCtx(NamedTuple):
    """Kept for backward: the input itself and as many denominators (in at least float32)."""

    x: Array  # (N, C) or (N, C, H, W)
    d: Array  # (C, L): k + alpha/size * sum of squares
    size: int
    alpha: float
    beta: float


def local_response_norm_forward(
    x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, LocalResponseNormCtx]:
    r"""Divide each value by a power of the sum of squares over neighbouring channels.

    .. math:: y_c = x_c \Big/ \Big(k + \frac{\alpha}{size} \sum_{j = c - \lfloor size/2 \rfloor}
              ^{c + \lfloor (size - 1)/2 \rfloor} x_j^2\Big)^\beta

    Channels that do not exist count as 0; with an even size the window holds one channel more before
    c than after it. (The paper's alpha is ``alpha/size`` here, as in torch and Caffe; its k is 2.)

    Parameters
    ----------
    x : array (N, C) or (N, C, H, W), float
    size : int, default 5
        Channels in a window.
    alpha : float, at least 0, default 1e-4
    beta : float, at least 0, default 0.75
    k : float, above 0, default 1

    Returns
    -------
    y : array, shape and type of `x`
    ctx : LocalResponseNormCtx

    Raises
    ------
    ShapeError
        If x has not 2 or 4 axes, or is empty.
    ArgumentError
        If a setting is out of range.
    DTypeError
        If x is no float array.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, *ImageNet classification with deep convolutional neural networks*
    (2012), section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import local_response_norm_forward
    >>> y, ctx = local_response_norm_forward(np.array([[1.0, 2.0, 4.0]]), size=3, alpha=3.0, beta=1.0)
    >>> y * np.array([[1 + 1 + 4, 1 + 1 + 4 + 16, 1 + 4 + 16]])
    array([[1., 2., 4.]])
    """
    operation = "local_response_norm"
    xp = check_arrays(operation, x=x)
    if len(x.shape) not in (2, 4) or 0 in x.shape:
        raise ShapeError(operation, f"x must be (N, C) or (N, C, H, W), none empty, got shape {tuple(x.shape)}")
    if not isinstance(size, int) or size < 1:
        raise ArgumentError(operation, f"size must be a number of channels, at least 1, got {size!r}")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0.0 <= value < math.inf:
            raise ArgumentError(operation, f"{name} must be finite and at least 0, got {value!r}")
    if not 0.0 < k < math.inf:
        raise ArgumentError(operation, f"k must be finite and above 0, got {k!r}")
    y, d = find("local_response_norm_forward", xp)(x, size, float(alpha), float(beta), float(k))
    return y, LocalResponseNormCtx(x, d, size, float(alpha), float(beta))


def local_response_norm_backward(dy: Array, ctx: LocalResponseNormCtx) -> Array:
    r"""Return the gradient of local response normalisation.

    .. math:: dx_c = dy_c\,d_c^{-\beta} - \frac{2 \alpha \beta}{size}\,x_c
              \sum_{j:\,c \in window(j)} dy_j\,x_j\,d_j^{-\beta-1}

    with d the denominator before the power.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : LocalResponseNormCtx

    Returns
    -------
    dx : array, shape of x

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import local_response_norm_backward, local_response_norm_forward
    >>> y, ctx = local_response_norm_forward(np.array([[1.0]]), size=1, alpha=1.0, beta=1.0)  # x / (1 + x^2)
    >>> local_response_norm_backward(np.array([[8.0]]), ctx)
    array([[0.]])
    """
    xp = check_gradient("local_response_norm_backward", dy, ctx.x, tuple(ctx.x.shape))
    return find("local_response_norm_backward", xp)(dy, ctx.x, ctx.d, ctx.size, ctx.alpha, ctx.beta)
