"""Pooling to a size that is given: of the whole image to one number, or in as many bins as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xpnet.backend import Array
from xpnet.functional.checks import check_arrays, check_gradient, check_images
from xpnet.functional.pool import check_mode
from xpnet.kernels import find
from xpnet.kernels.geometry import pair

__all__ = [
    "AdaptivePool2DCtx",
    "GlobalPool2DCtx",
    "adaptive_pool2d_backward",
    "adaptive_pool2d_forward",
    "global_pool2d_backward",
    "global_pool2d_forward",
]

ADAPTIVE_MODES = ("max", "average")


class AdaptivePool2DCtx(NamedTuple):
    """Kept for backward: the output and, but with "average", the input, nothing new."""

    x: Array | None  # (N, C, H, W); None with "average"
    y: Array  # (N, C, OH, OW)
    shape: tuple[int, ...]  # of the input
    mode: str
    p: float


class GlobalPool2DCtx(NamedTuple):
    """Kept for backward: the output, small, and, but with "average", the input, nothing new."""

    x: Array | None  # (N, C, H, W); None with "average"
    y: Array  # (N, C), or (N, C, 1, 1) with keepdims
    shape: tuple[int, ...]  # of the input
    mode: str
    p: float


def global_pool2d_forward(
    x: Array, *, mode: str = "average", p: float = 2, keepdims: bool = False
) -> tuple[Array, GlobalPool2DCtx]:
    """Reduce each channel to one number: its average, its maximum or its p-norm.

    Parameters
    ----------
    x : array (N, C, H, W), float
    mode : {"average", "max", "lp"}, default "average"
    p : float, default 2
        Exponent of "lp", at least 1: ``y = (sum |x|**p)**(1/p)``.
    keepdims : bool, default False
        Keep the two axes of the image, with size 1.

    Returns
    -------
    y : array (N, C), or (N, C, 1, 1) with `keepdims`, the type of `x`
    ctx : GlobalPool2DCtx

    Raises
    ------
    ShapeError
        If `x` is no batch of images.
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Lin, Chen and Yan, *Network in network*, arXiv:1312.4400, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import global_pool2d_forward
    >>> y, ctx = global_pool2d_forward(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y
    array([[1.5, 5.5]])
    """
    xp = check_arrays("global_pool2d", x=x)
    check_images("global_pool2d", x)
    p = check_mode("global_pool2d", mode, p)
    shape = tuple(int(n) for n in x.shape)
    y = find("bin_pool2d_forward", xp)(x, (1, 1), mode, p)
    y = y if keepdims else y[:, :, 0, 0]
    return y, GlobalPool2DCtx(None if mode == "average" else x, y, shape, mode, p)


def global_pool2d_backward(dy: Array, ctx: GlobalPool2DCtx) -> Array:
    """Return dx: an average spreads its gradient evenly, the first maximum gets it all, a norm spreads it by size.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : GlobalPool2DCtx

    Returns
    -------
    dx : array (N, C, H, W)

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import global_pool2d_backward, global_pool2d_forward
    >>> y, ctx = global_pool2d_forward(np.ones((1, 1, 2, 2)))
    >>> global_pool2d_backward(np.array([[4.0]]), ctx)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    xp = check_gradient("global_pool2d_backward", dy, ctx.y, tuple(ctx.y.shape))
    one = (*ctx.shape[:2], 1, 1)
    dy, y = xp.reshape(dy, one), xp.reshape(ctx.y, one)
    backward = find("bin_pool2d_backward", xp)
    return backward(dy, ctx.x, y, ctx.shape, ctx.mode, ctx.p)


def adaptive_pool2d_forward(
    x: Array, output_size: int | Sequence[int], *, mode: str = "average"
) -> tuple[Array, AdaptivePool2DCtx]:
    """Reduce images of any size to one size, by the average or the maximum of bins of about equal size.

    Bin i of OH covers the rows from ``floor(i*H / OH)`` up to ``ceil((i + 1)*H / OH)``; neighbours overlap by
    a row where OH does not divide H. Images smaller than the output are enlarged by repetition.

    Parameters
    ----------
    x : array (N, C, H, W), float
    output_size : int or (int, int)
    mode : {"average", "max"}, default "average"

    Returns
    -------
    y : array (N, C, OH, OW), the type of `x`
        In memory the batch is the innermost axis.
    ctx : AdaptivePool2DCtx

    Raises
    ------
    ShapeError
        If `x` is no batch of images.
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    He et al., *Spatial pyramid pooling*, arXiv:1406.4729.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import adaptive_pool2d_forward
    >>> y, ctx = adaptive_pool2d_forward(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    >>> y[0, 0]
    array([[1., 3.]])
    """
    xp = check_arrays("adaptive_pool2d", x=x)
    check_images("adaptive_pool2d", x)
    p = check_mode("adaptive_pool2d", mode, modes=ADAPTIVE_MODES)
    size = pair("adaptive_pool2d", "output_size", output_size)
    shape = tuple(int(n) for n in x.shape)
    y = find("bin_pool2d_forward", xp)(x, size, mode, p)
    return y, AdaptivePool2DCtx(None if mode == "average" else x, y, shape, mode, p)


def adaptive_pool2d_backward(dy: Array, ctx: AdaptivePool2DCtx) -> Array:
    """Return dx: the first maximum of a bin gets all of its gradient, an average shares it; overlaps add up.

    Parameters
    ----------
    dy : array (N, C, OH, OW)
        Not changed.
    ctx : AdaptivePool2DCtx

    Returns
    -------
    dx : array (N, C, H, W)

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import adaptive_pool2d_backward, adaptive_pool2d_forward
    >>> y, ctx = adaptive_pool2d_forward(np.ones((1, 1, 1, 3)), (1, 2))
    >>> adaptive_pool2d_backward(np.ones((1, 1, 1, 2)), ctx)[0, 0]
    array([[0.5, 1. , 0.5]])
    """
    xp = check_gradient("adaptive_pool2d_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("bin_pool2d_backward", xp)(dy, ctx.x, ctx.y, ctx.shape, ctx.mode, ctx.p)
