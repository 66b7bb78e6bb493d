"""Convolution of images (cross-correlation, as in every CNN), and im2col and col2im as in the book."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpnet.backend import Array, array_namespace, device_of, wide_dtype
from xpnet.errors import ArgumentError, OperationError, ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_images, check_positive_int, is_relu
from xpnet.kernels import find
from xpnet.kernels.agnostic.conv import gather_columns, scatter_columns
from xpnet.kernels.geometry import Padding, Window, make_window
from xpnet.kernels.layout import batch_first, batch_innermost

__all__ = ["ALGORITHMS", "Conv2DCtx", "col2im", "conv2d_backward", "conv2d_backward_of_new", "conv2d_forward", "im2col"]


PREFIXES = {"gemm": "", "winograd": "winograd_", "direct": "depthwise_"}  # of the kernels' names
ALGORITHMS = ("auto", *PREFIXES)


class Conv2DCtx(NamedTuple):
    """Kept for backward: input, weights and, with relu, output themselves, nothing new (columns are gathered anew)."""

    x: Array  # (N, C, H, W)
    W: Array  # (F, C/groups, KH, KW)
    has_bias: bool
    window: Window
    groups: int
    algorithm: str  # "gemm", "winograd" or "direct"
    y: Array | None = None  # (N, F, OH, OW); only with relu


def conv2d_forward(
    x: Array,
    W: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    activation: str | None = None,
) -> tuple[Array, Conv2DCtx]:
    r"""Slide F kernels over a batch of images.

    .. math:: y_{n,f,p,q} = b_f + \sum_{c,i,j} W_{f,c,i,j}\, x_{n,\,c,\;ps - t + id,\;qs - l + jd}

    with stride s, dilation d, and padding t above and l to the left; pixels outside are zero.

    Parameters
    ----------
    x : array (N, C, H, W), float
    W : array (F, C / groups, KH, KW), the type of `x`
    b : array (F,), optional
    stride : int or (int, int), default 1
    padding : int, (ph, pw), ((top, bottom), (left, right)), "valid", "same" or "full", default 0
        ``"same"`` gives ``ceil(H / stride)`` rows, the odd row of padding at the bottom;
        ``"full"`` lets every window count that touches the image.
    dilation : int or (int, int), default 1
    groups : int, default 1
        Split the channels into groups that do not see each other; with ``groups=C``, depthwise.
    algorithm : {"auto", "gemm", "winograd", "direct"}, default "auto"
        ``"gemm"``: columns and one matrix product, for every convolution. ``"winograd"``: a quarter of the
        multiplications and some twenty times the rounding error, for 3x3 kernels without stride, dilation and groups.
        ``"direct"``: a sum over the kernel's taps, for groups of one channel.
        ``"auto"`` chooses by the shapes alone, so equal calls give equal bits: direct for depthwise
        convolutions, and on NumPy winograd from 64 channels and filters on (16 where Numba is installed and the
        batch fills vectors).
    activation : {None, "relu"}, default None
        ``"relu"``: y is the relu of the convolution, in fewer passes over memory than by `relu_forward`.

    Returns
    -------
    y : array (N, F, OH, OW), the type of `x`
        ``OH = floor((H + top + bottom - dilation*(KH - 1) - 1) / stride) + 1``, OW alike.
        In memory the batch is the innermost axis.
    ctx : Conv2DCtx

    Raises
    ------
    ShapeError
        If channels, filters and groups do not fit, the batch is empty or the output would be.
    ArgumentError
        If stride, padding, dilation, groups or activation have a value that cannot be used, or the algorithm
        cannot do it.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), ch. 7; LeCun et al., *Gradient-based learning applied to
    document recognition* (1998); Yu and Koltun on dilation, arXiv:1511.07122; Lavin and Gray on Winograd's
    algorithm, arXiv:1509.09308.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import conv2d_forward
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> W = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, ctx = conv2d_forward(x, W)
    >>> y[0, 0]
    array([[19., 25.],
           [37., 43.]])
    """
    xp = check_arrays("conv2d", x=x, W=W, b=b)
    check_images("conv2d", x)
    groups = _check_weights(x, W, b, groups)
    window = make_window("conv2d", x.shape[2:], W.shape[2:], stride, padding, dilation)
    chosen = _choose(xp, algorithm, x, W, window, groups)
    rectified = is_relu("conv2d", activation)
    name = PREFIXES[chosen] + ("conv2d_relu_forward" if rectified else "conv2d_forward")
    y = find(name, xp)(x, W, b, window, groups)
    return y, Conv2DCtx(x, W, b is not None, window, groups, chosen, y if rectified else None)


def conv2d_backward(dy: Array, ctx: Conv2DCtx, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """Return the gradients of a convolution.

    ``db`` sums dy over batch and pixels, ``dW`` correlates x with dy, and ``dx`` convolves dy with the
    flipped kernels.

    Parameters
    ----------
    dy : array (N, F, OH, OW)
        Gradient of the loss with respect to y; not changed.
    ctx : Conv2DCtx
        From `conv2d_forward`.
    need_dx : bool, default True
        False leaves dx out; the first layer of a network never needs it.

    Returns
    -------
    dx : array (N, C, H, W), or None
    dW : array (F, C / groups, KH, KW)
    db : array (F,), or None if there was no bias

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import conv2d_backward, conv2d_forward
    >>> y, ctx = conv2d_forward(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.zeros(1))
    >>> dx, dW, db = conv2d_backward(np.ones_like(y), ctx)
    >>> dx[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    return _gradients(dy, ctx, need_dx, False)


def conv2d_backward_of_new(
    dy: Array, ctx: Conv2DCtx, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """As `conv2d_backward`, of a dy that nobody else keeps: its memory may be used."""
    return _gradients(dy, ctx, need_dx, True)


def _gradients(dy: Array, ctx: Conv2DCtx, need_dx: bool, overwrite: bool) -> tuple[Array | None, Array, Array | None]:
    shape = (ctx.x.shape[0], ctx.W.shape[0], *ctx.window.output)
    xp = check_gradient("conv2d_backward", dy, ctx.x, shape)
    backward = find(PREFIXES[ctx.algorithm] + "conv2d_backward", xp)
    if ctx.y is None:
        return backward(dy, ctx.x, ctx.W, ctx.window, ctx.groups, need_dx, ctx.has_bias)
    dy, db = find("relu_bias_backward", xp)(dy, ctx.y, ctx.has_bias, overwrite)
    dx, dW, later = backward(dy, ctx.x, ctx.W, ctx.window, ctx.groups, need_dx, ctx.has_bias and db is None)
    return dx, dW, later if db is None else db


def is_depthwise(W: Array, groups: int) -> bool:
    """Tell whether weights (F, C/groups, KH, KW) have groups of one channel with at most two filters.

    With more filters for each channel a matrix product has enough to share and is faster.
    """
    return groups > 1 and W.shape[1] == 1 and W.shape[0] <= 2 * groups


def kernel_name(name: str, W: Array, groups: int) -> str:
    """Return the name of the kernel for a transposed convolution, which has two algorithms."""
    return PREFIXES["direct" if is_depthwise(W, groups) else "gemm"] + name


def check_algorithm(operation: str, algorithm: Any) -> None:
    """Refuse what is no name of an algorithm."""
    if algorithm not in ALGORITHMS:
        raise ArgumentError(operation, f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")


def _choose(xp: Any, algorithm: str, x: Array, W: Array, window: Window, groups: int) -> str:
    """Return the algorithm for a convolution, or refuse one that cannot do it."""
    plain = window.kernel == (3, 3) and (window.stride, window.dilation, groups) == ((1, 1), (1, 1), 1)
    if algorithm == "auto":
        if plain:
            return find("conv2d_algorithm", xp)(x, W, window)
        return "direct" if is_depthwise(W, groups) else "gemm"
    check_algorithm("conv2d", algorithm)
    if algorithm == "winograd" and not plain:
        raise ArgumentError(
            "conv2d",
            "algorithm 'winograd' is for 3x3 kernels with stride 1, dilation 1 and no groups; got kernel "
            f"{window.kernel}, stride {window.stride}, dilation {window.dilation}, groups {groups}; use 'auto'",
        )
    if algorithm == "direct" and W.shape[1] != 1:
        raise ArgumentError(
            "conv2d", f"algorithm 'direct' is for groups of one channel, got {W.shape[1]} channels a group; use 'auto'"
        )
    return algorithm


def _check_weights(x: Array, W: Array, b: Array | None, groups: Any) -> int:
    """Return groups as an int, or refuse weights, groups or bias that do not fit the images or each other."""
    C = x.shape[1]

    def shapes() -> str:
        return f"x.shape={tuple(x.shape)}, W.shape={tuple(W.shape)}"

    if len(W.shape) != 4 or 0 in W.shape:
        raise ShapeError("conv2d", f"W must have 4 axes (F, C/groups, KH, KW), none empty; {shapes()}")
    groups = check_positive_int("conv2d", "groups", groups)
    if C % groups or W.shape[0] % groups:
        raise ShapeError(
            "conv2d",
            f"groups={groups} must divide the {C} channels of x and the {W.shape[0]} filters of W; {shapes()}",
        )
    if W.shape[1] * groups != C:
        expects = f"{W.shape[1]}" if groups == 1 else f"{W.shape[1]} * groups = {W.shape[1] * groups}"
        raise ShapeError("conv2d", f"x has {C} channels but W expects {expects} ({shapes()})")
    if b is not None and tuple(b.shape) != (W.shape[0],):
        raise ShapeError("conv2d", f"b must have shape (F,) = ({W.shape[0]},), got {tuple(b.shape)}; {shapes()}")
    return groups


def im2col(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Unfold images so that a convolution becomes one matrix product.

    Parameters
    ----------
    x : array (N, C, H, W)
    kernel_size, stride, padding, dilation
        As for `conv2d_forward`.

    Returns
    -------
    col : array (N*OH*OW, C*KH*KW), the type of `x`
        One row per output pixel, in the order (n, oh, ow); columns in the order (c, kh, kw).
        It holds every pixel KH*KW times: `conv2d_forward` does the same in blocks instead.

    Raises
    ------
    ShapeError, ArgumentError
        If `x` is no batch of images or the window does not fit it.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.4.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import im2col
    >>> im2col(np.ones((10, 3, 7, 7)), 5).shape
    (90, 75)
    """
    xp = _namespace("im2col", x)
    check_images("im2col", x)
    window = make_window("im2col", x.shape[2:], kernel_size, stride, padding, dilation)
    (N, C), (KH, KW), (OH, OW) = x.shape[:2], window.kernel, window.output
    col = xp.empty((C, KH, KW, OH, OW, N), dtype=x.dtype, device=device_of(x))
    gather_columns(col, batch_innermost(xp, x), window, slice(0, OH), slice(0, OW))
    return xp.reshape(xp.permute_dims(col, (5, 3, 4, 0, 1, 2)), (N * OH * OW, C * KH * KW))


def col2im(
    col: Array,
    x_shape: Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Add columns back to the pixels that `im2col` took them from; pixels that overlap are summed.

    It is the transpose of `im2col` (its backward pass), not its inverse.

    Parameters
    ----------
    col : array (N*OH*OW, C*KH*KW)
    x_shape : (N, C, H, W)
    kernel_size, stride, padding, dilation
        As given to `im2col`.

    Returns
    -------
    x : array (N, C, H, W), the type of `col`

    Raises
    ------
    ShapeError, ArgumentError
        If `col` does not fit `x_shape` and the window.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import col2im
    >>> col2im(np.ones((4, 4)), (1, 1, 3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    xp = _namespace("col2im", col)
    if len(x_shape) != 4 or min(x_shape) < 1:
        raise ShapeError("col2im", f"x_shape must be (N, C, H, W), all at least 1, got {tuple(x_shape)}")
    N, C, H, W_ = (int(n) for n in x_shape)
    window = make_window("col2im", (H, W_), kernel_size, stride, padding, dilation)
    (KH, KW), (OH, OW) = window.kernel, window.output
    expected = (N * OH * OW, C * math.prod(window.kernel))
    if tuple(col.shape) != expected:
        raise ShapeError(
            "col2im",
            f"col must have shape (N*OH*OW, C*KH*KW) = {expected} for x_shape={(N, C, H, W_)}, got {tuple(col.shape)}",
        )
    x = xp.zeros((C, H, W_, N), dtype=wide_dtype(xp, col.dtype), device=device_of(col))
    inner = xp.permute_dims(xp.reshape(col, (N, OH, OW, C, KH, KW)), (3, 4, 5, 1, 2, 0))
    scatter_columns(x, inner, window, slice(0, OH), slice(0, OW))
    return batch_first(xp, xp.astype(x, col.dtype, copy=False))


def _namespace(operation: str, x: Array) -> Any:
    try:
        return array_namespace(x)
    except OperationError as error:
        error.operation = operation
        raise
