"""Transposed convolution: the gradient of a convolution, used as an operation of its own to enlarge images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from xpnet.backend import Array, wide_dtype
from xpnet.errors import ShapeError
from xpnet.functional.checks import check_arrays, check_gradient, check_images, check_positive_int
from xpnet.functional.conv import kernel_name
from xpnet.kernels import find
from xpnet.kernels.geometry import Padding, Window, make_transposed_window
from xpnet.kernels.layout import batch_first, batch_innermost

__all__ = ["ConvTranspose2DCtx", "conv_transpose2d_backward", "conv_transpose2d_forward"]


class ConvTranspose2DCtx(NamedTuple):
    """Kept for backward: the input and the weights themselves, nothing new."""

    x: Array  # (N, C, H, W)
    W: Array  # (C, F/groups, KH, KW)
    has_bias: bool
    window: Window  # of the convolution that leads from y back to x
    groups: int


def conv_transpose2d_forward(
    x: Array,
    W: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Array, ConvTranspose2DCtx]:
    r"""Let each pixel of x add its multiple of the kernel to the output, `stride` pixels apart.

    .. math:: y_{n,f,\;ps - t + id,\;qs - l + jd} \mathrel{+}= W_{c,f,i,j}\, x_{n,c,p,q}

    with stride s, dilation d, and padding t above and l to the left: what `conv2d_backward` does to
    return dx. Where a convolution of the same settings leads from (F, OH, OW) to (C, H, W), this leads
    back, with the same weights.

    Parameters
    ----------
    x : array (N, C, H, W), float
    W : array (C, F / groups, KH, KW), the type of `x`
    b : array (F,), optional
    stride : int or (int, int), default 1
    padding : int, (ph, pw), ((top, bottom), (left, right)), "valid", "same" or "full", default 0
        How much of the result is cut off, which is what the convolution back pads. ``"same"`` gives
        ``H * stride`` rows.
    output_padding : int or (int, int), default 0
        Rows and columns more, at the bottom and on the right: of the sizes that the convolution back
        makes H of, 0 chooses the smallest. Less than the stride or the dilation.
    dilation : int or (int, int), default 1
    groups : int, default 1
        Split the channels into groups that do not see each other.

    Returns
    -------
    y : array (N, F, OH, OW), the type of `x`
        ``OH = (H - 1)*stride - top - bottom + dilation*(KH - 1) + output_padding + 1``, OW alike.
        In memory the batch is the innermost axis.
    ctx : ConvTranspose2DCtx

    Raises
    ------
    ShapeError
        If channels, filters and groups do not fit, the batch is empty or the output would be.
    ArgumentError
        If stride, padding, output_padding, dilation or groups have a value that cannot be used.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285, ch. 4;
    Zeiler et al., *Deconvolutional networks* (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import conv_transpose2d_forward
    >>> x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> y, ctx = conv_transpose2d_forward(x, np.ones((1, 1, 2, 2)), stride=2)
    >>> y[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    xp = check_arrays("conv_transpose2d", x=x, W=W, b=b)
    check_images("conv_transpose2d", x)
    groups = _check_weights(x, W, b, groups)
    window = make_transposed_window(
        "conv_transpose2d", x.shape[2:], W.shape[2:], stride, padding, output_padding, dilation
    )
    y = find(kernel_name("conv2d_input_gradient", W, groups), xp)(x, W, window, groups)
    if b is not None:
        inner = xp.permute_dims(y, (1, 2, 3, 0))  # y is ours: in place is allowed
        inner += xp.reshape(b, (b.shape[0], 1, 1, 1))
    return y, ConvTranspose2DCtx(x, W, b is not None, window, groups)


def conv_transpose2d_backward(
    dy: Array, ctx: ConvTranspose2DCtx, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Return the gradients of a transposed convolution.

    ``dx`` is the convolution of dy with the same weights, ``dW`` that of the convolution with dy in the
    place of its input and x in that of its gradient, ``db`` sums dy over batch and pixels.

    Parameters
    ----------
    dy : array (N, F, OH, OW)
        Gradient of the loss with respect to y; not changed.
    ctx : ConvTranspose2DCtx
        From `conv_transpose2d_forward`.
    need_dx : bool, default True
        False leaves dx out; the first layer of a network never needs it.

    Returns
    -------
    dx : array (N, C, H, W), or None
    dW : array (C, F / groups, KH, KW)
    db : array (F,), or None if there was no bias

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import conv_transpose2d_backward, conv_transpose2d_forward
    >>> y, ctx = conv_transpose2d_forward(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.zeros(1))
    >>> dx, dW, db = conv_transpose2d_backward(np.ones_like(y), ctx)
    >>> dx[0, 0]
    array([[4., 4.],
           [4., 4.]])
    """
    F = ctx.W.shape[1] * ctx.groups
    xp = check_gradient("conv_transpose2d_backward", dy, ctx.x, (ctx.x.shape[0], F, *ctx.window.input))
    dy = batch_first(xp, batch_innermost(xp, dy))  # copied once where it lies otherwise, not in each kernel
    backward = find(kernel_name("conv2d_backward", ctx.W, ctx.groups), xp)
    _, dW, _ = backward(ctx.x, dy, ctx.W, ctx.window, ctx.groups, False, False)
    db = None
    if ctx.has_bias:
        inner = xp.permute_dims(dy, (1, 2, 3, 0))
        db = xp.astype(xp.sum(inner, axis=(1, 2, 3), dtype=wide_dtype(xp, dy.dtype)), dy.dtype, copy=False)
    dx = None
    if need_dx:
        dx = find(kernel_name("conv2d_forward", ctx.W, ctx.groups), xp)(dy, ctx.W, None, ctx.window, ctx.groups)
    return dx, dW, db


def _check_weights(x: Array, W: Array, b: Array | None, groups: Any) -> int:
    operation = "conv_transpose2d"
    C, shapes = x.shape[1], f"x.shape={tuple(x.shape)}, W.shape={tuple(W.shape)}"
    if len(W.shape) != 4 or 0 in W.shape:
        raise ShapeError(operation, f"W must have 4 axes (C, F/groups, KH, KW), none empty; {shapes}")
    groups = check_positive_int(operation, "groups", groups)
    if W.shape[0] != C:
        raise ShapeError(operation, f"x has {C} channels but W expects {W.shape[0]} ({shapes})")
    if C % groups:
        raise ShapeError(operation, f"groups={groups} must divide the {C} channels of x; {shapes}")
    F = W.shape[1] * groups
    if b is not None and tuple(b.shape) != (F,):
        raise ShapeError(operation, f"b must have shape (F,) = ({F},), got {tuple(b.shape)}; {shapes}")
    return groups
