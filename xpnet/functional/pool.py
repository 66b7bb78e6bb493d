"""Pooling of images by the maximum, the average or the p-norm of each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_images
from xpnet.kernels import find
from xpnet.kernels.geometry import Padding, Window, make_window

__all__ = ["Pool2DCtx", "pool2d_backward", "pool2d_forward"]

MODES = ("max", "average", "lp")


class Pool2DCtx(NamedTuple):
    """Kept for backward: the output and, but with "average", the input; on torch, new: where the maxima are."""

    x: Array | None  # (N, C, H, W); None with "average"
    y: Array  # (N, C, OH, OW)
    places: Array | None  # (N, C, OH, OW), where the maxima are, if the library's kernel notes that
    window: Window
    mode: str
    count_include_pad: bool
    p: float


def pool2d_forward(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    *,
    mode: str = "max",
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    p: float = 2,
    train: bool = True,
) -> tuple[Array, Pool2DCtx]:
    r"""Reduce each window of each channel to its maximum, its average or its p-norm.

    .. math:: y = \max_i x_i, \quad y = \tfrac1n \sum_i x_i, \quad\text{or}\quad
              y = \bigl(\sum_i |x_i|^p\bigr)^{1/p}

    Parameters
    ----------
    x : array (N, C, H, W), float
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the kernel size: windows that neither overlap nor leave gaps.
    padding : int, (ph, pw), ((top, bottom), (left, right)), "valid", "same" or "full", default 0
        Maximum pooling pads with minus infinity, so padding never wins; "lp" pads with zeros.
    dilation : int or (int, int), default 1
    mode : {"max", "average", "lp"}, default "max"
    count_include_pad : bool, default True
        Whether an average counts padding as zeros, or only the pixels of the image.
    ceil_mode : bool, default False
        Round sizes up: a last window may reach beyond the padding, if it starts in the image or in the
        padding before it. No average counts what lies beyond the padding.
    p : float, default 2
        Exponent of "lp", at least 1; 1 is a sum of sizes, and the larger, the more like a maximum of sizes.
    train : bool, default True
        False leaves out what only backward needs; that then finds the maxima anew.

    Returns
    -------
    y : array (N, C, OH, OW), the type of `x`
        Sizes as for `conv2d_forward`, with `ceil_mode` the ceiling in place of the floor.
    ctx : Pool2DCtx

    Raises
    ------
    ShapeError
        If `x` is no batch of images, the output would be empty, or a window would see padding only.
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.3; Gulcehre et al. on the p-norm, arXiv:1311.1780.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import pool2d_forward
    >>> y, ctx = pool2d_forward(np.arange(1.0, 17.0).reshape(1, 1, 4, 4), 2)
    >>> y[0, 0]
    array([[ 6.,  8.],
           [14., 16.]])
    """
    xp = check_arrays("pool2d", x=x)
    check_images("pool2d", x)
    p = check_mode("pool2d", mode, p)
    step = kernel_size if stride is None else stride
    window = make_window("pool2d", x.shape[2:], kernel_size, step, padding, dilation, ceil_mode)
    if mode == "lp":
        y, places = find("lp_pool2d_forward", xp)(x, window, p), None
    else:
        check_windows(window, mode, count_include_pad)
        forward = find("pool2d_forward" if train else "pool2d_inference", xp)
        y, places = forward(x, window, mode, count_include_pad)
    return y, Pool2DCtx(None if mode == "average" else x, y, places, window, mode, count_include_pad, p)


def pool2d_backward(dy: Array, ctx: Pool2DCtx) -> Array:
    """Return dx: maxima get the gradient of their windows, averages spread it evenly, norms by size.

    Where several pixels of a window share the maximum, the first (in row order) gets it all. With "lp",
    ``dx = dy sign(x) (|x| / y)**(p - 1)``, and 0 where the window is all zero. Where windows overlap, a
    pixel's gradients are added in a fixed order: equal arguments give equal gradients, bit for bit.

    Parameters
    ----------
    dy : array (N, C, OH, OW)
        Not changed.
    ctx : Pool2DCtx

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
    >>> from xpnet.functional import pool2d_backward, pool2d_forward
    >>> y, ctx = pool2d_forward(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]), 2)
    >>> pool2d_backward(np.array([[[[5.0]]]]), ctx)[0, 0]
    array([[0., 0.],
           [5., 0.]])
    """
    xp = check_gradient("pool2d_backward", dy, ctx.y, tuple(ctx.y.shape))
    if ctx.mode == "lp":
        return find("lp_pool2d_backward", xp)(dy, ctx.x, ctx.y, ctx.window, ctx.p)
    return find("pool2d_backward", xp)(dy, ctx.x, ctx.y, ctx.places, ctx.window, ctx.mode, ctx.count_include_pad)


def check_mode(operation: str, mode: str, p: Any = 2, modes: Sequence[str] = MODES) -> float:
    """Refuse an unknown mode or an exponent that gives no norm; return the exponent as a float."""
    if mode not in modes:
        raise ArgumentError(operation, f"mode must be one of {', '.join(modes)}, got {mode!r}")
    if type(p) is int and p >= 1:  # without looking for it among all kinds of numbers
        return float(p)
    if isinstance(p, bool) or not isinstance(p, Real) or not 1.0 <= float(p) < math.inf:
        raise ArgumentError(operation, f"p must be a finite number of at least 1, got {p!r}")
    return float(p)


def check_windows(window: Window, mode: str, count_include_pad: bool) -> None:
    """Refuse windows that see padding only where they have no maximum, or no average without padding."""
    if window.padding == ((0, 0), (0, 0)) or mode == "lp" or (mode == "average" and count_include_pad):
        return
    for axis, name in enumerate(("row", "column")):
        counts = window.tap_counts(axis)
        if 0 in counts:
            raise ShapeError(
                "pool2d",
                f"the window of output {name} {counts.index(0)} lies wholly in the padding "
                f"(size {window.input[axis]}, kernel {window.kernel[axis]}, stride {window.stride[axis]}, "
                f"padding {window.padding[axis]}, dilation {window.dilation[axis]}); use less padding",
            )
