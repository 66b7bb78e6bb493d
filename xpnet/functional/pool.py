"""Pooling of images by the maximum or the average of each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_images
from xpnet.kernels import find
from xpnet.kernels.geometry import Padding, Window, make_window

__all__ = ["Pool2DCtx", "pool2d_backward", "pool2d_forward"]

MODES = ("max", "average")


class Pool2DCtx(NamedTuple):
    """Kept for backward: with "max" the input and output themselves, with "average" the input for its shape."""

    x: Array  # (N, C, H, W)
    y: Array | None  # (N, C, OH, OW), with "max"
    window: Window
    mode: str
    count_include_pad: bool


def pool2d_forward(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    *,
    mode: str = "max",
    count_include_pad: bool = True,
) -> tuple[Array, Pool2DCtx]:
    """Reduce each window of each channel to its maximum or its average.

    Parameters
    ----------
    x : array (N, C, H, W), float
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the kernel size: windows that neither overlap nor leave gaps.
    padding : int, (ph, pw), ((top, bottom), (left, right)), "valid", "same" or "full", default 0
        Maximum pooling pads with minus infinity, so padding never wins.
    dilation : int or (int, int), default 1
    mode : {"max", "average"}, default "max"
    count_include_pad : bool, default True
        Whether an average counts padding as zeros, or only the pixels of the image.

    Returns
    -------
    y : array (N, C, OH, OW), the type of `x`
        Sizes as for `conv2d_forward`.
    ctx : Pool2DCtx

    Raises
    ------
    ShapeError
        If `x` is no batch of images, the output would be empty, or a window would see padding only.
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.3.

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
    if mode not in MODES:
        raise ArgumentError("pool2d", f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    step = kernel_size if stride is None else stride
    window = make_window("pool2d", x.shape[2:], kernel_size, step, padding, dilation)
    if mode == "max" or not count_include_pad:
        _check_windows(window)
    y = find("pool2d_forward", xp)(x, window, mode, count_include_pad)
    return y, Pool2DCtx(x, y if mode == "max" else None, window, mode, count_include_pad)


def pool2d_backward(dy: Array, ctx: Pool2DCtx) -> Array:
    """Return dx: maxima get the gradient of their windows, averages spread it evenly.

    Where several pixels of a window share the maximum, the first (in row order) gets it all.

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
    xp = check_gradient("pool2d_backward", dy, ctx.x, (*ctx.x.shape[:2], *ctx.window.output))
    return find("pool2d_backward", xp)(dy, ctx.x, ctx.y, ctx.window, ctx.mode, ctx.count_include_pad)


def _check_windows(window: Window) -> None:
    """Refuse windows that see padding only: they have no maximum, and no average without padding."""
    if window.padding == ((0, 0), (0, 0)):
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
