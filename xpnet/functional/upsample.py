"""Enlarging images by a whole factor, by repeating pixels or by linear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from xpnet.backend import Array, bounded, device_of, wide_dtype
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_arrays, check_gradient, check_images
from xpnet.kernels.geometry import pair

__all__ = ["Upsample2DCtx", "check_upsample_mode", "upsample2d_backward", "upsample2d_forward"]

UPSAMPLE_MODES = ("nearest", "bilinear")


class Upsample2DCtx(NamedTuple):
    """Kept for backward: sizes, no array."""

    shape: tuple[int, ...]  # of the input
    scale: tuple[int, int]
    mode: str


def upsample2d_forward(
    x: Array, scale: int | Sequence[int] = 2, *, mode: str = "nearest"
) -> tuple[Array, Upsample2DCtx]:
    """Enlarge images by a whole factor.

    ``"nearest"`` repeats each pixel. ``"bilinear"`` interpolates between the centres of the pixels: row i of the
    output lies at ``(i + 0.5) / scale - 0.5`` of the input, and beyond the outermost centres the image goes on as it
    is there (PyTorch's ``align_corners=False``).

    Parameters
    ----------
    x : array (N, C, H, W), float
    scale : int or (int, int), default 2
        Of the rows and of the columns.
    mode : {"nearest", "bilinear"}, default "nearest"

    Returns
    -------
    y : array (N, C, scale * H, scale * W), the type of `x`
    ctx : Upsample2DCtx

    Raises
    ------
    ShapeError
        If `x` is no batch of images.
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import upsample2d_forward
    >>> x = np.array([[[[0.0, 4.0]]]])
    >>> upsample2d_forward(x, (1, 2))[0][0, 0]
    array([[0., 0., 4., 4.]])
    >>> upsample2d_forward(x, (1, 2), mode="bilinear")[0][0, 0]
    array([[0., 1., 3., 4.]])
    """
    xp = check_arrays("upsample2d", x=x)
    check_images("upsample2d", x)
    scales = pair("upsample2d", "scale", scale)
    check_upsample_mode("upsample2d", mode)
    N, C, H, W_ = shape = tuple(int(n) for n in x.shape)
    (SH, SW), inner = scales, xp.permute_dims(x, (1, 2, 3, 0))
    if mode == "nearest":
        spread = xp.broadcast_to(xp.reshape(inner, (C, H, 1, W_, 1, N)), (C, H, SH, W_, SW, N))
        y = xp.reshape(spread, (C, H * SH, W_ * SW, N))
    else:
        rows, columns = (_interpolation(xp, x, size, s) for size, s in zip((H, W_), scales, strict=True))
        y = xp.astype(_apply(xp, inner, rows, columns), x.dtype, copy=False)
    return xp.permute_dims(y, (3, 0, 1, 2)), Upsample2DCtx(shape, scales, mode)


def upsample2d_backward(dy: Array, ctx: Upsample2DCtx) -> Array:
    """Return dx: each pixel gets what it gave, with the same weights.

    Parameters
    ----------
    dy : array (N, C, scale * H, scale * W)
        Not changed.
    ctx : Upsample2DCtx

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
    >>> from xpnet.functional import upsample2d_backward, upsample2d_forward
    >>> y, ctx = upsample2d_forward(np.zeros((1, 1, 1, 2)))
    >>> upsample2d_backward(np.arange(8.0).reshape(1, 1, 2, 4), ctx)[0, 0]
    array([[10., 18.]])
    """
    (N, C, H, W_), (SH, SW) = ctx.shape, ctx.scale
    xp = check_gradient("upsample2d_backward", dy, dy, (N, C, H * SH, W_ * SW))
    inner = xp.permute_dims(dy, (1, 2, 3, 0))
    if ctx.mode == "nearest":
        wide = wide_dtype(xp, dy.dtype)
        dx = xp.sum(xp.reshape(inner, (C, H, SH, W_, SW, N)), axis=(2, 4), dtype=wide)
    else:
        rows, columns = (_interpolation(xp, dy, size, s) for size, s in zip((H, W_), ctx.scale, strict=True))
        dx = _apply(xp, inner, rows.T, columns.T)
    return xp.permute_dims(xp.astype(dx, dy.dtype, copy=False), (3, 0, 1, 2))


def check_upsample_mode(operation: str, mode: str) -> None:
    """Refuse a mode that is unknown."""
    if mode not in UPSAMPLE_MODES:
        raise ArgumentError(operation, f"mode must be one of {', '.join(UPSAMPLE_MODES)}, got {mode!r}")


def _interpolation(xp: Any, x: Array, size: int, scale: int) -> Array:
    """Return (scale * size, size): what each row of the output takes of those of the input, in at least float32."""
    dtype, device = wide_dtype(xp, x.dtype), device_of(x)
    at = (xp.arange(size * scale, dtype=dtype, device=device) + 0.5) / scale - 0.5
    at = bounded(xp, at, 0.0, float(size - 1))
    return bounded(xp, 1.0 - xp.abs(at[:, None] - xp.arange(size, dtype=dtype, device=device)), 0.0, 1.0)


def _apply(xp: Any, inner: Array, rows: Array, columns: Array) -> Array:
    """Return images (C, H, W, N) with their rows and columns combined by the matrices (OH, H) and (OW, W)."""
    C, H, W_, N = inner.shape
    OH, OW = rows.shape[0], columns.shape[0]
    wide = xp.astype(inner, rows.dtype, copy=False)
    y = rows @ xp.reshape(wide, (C, H, W_ * N))
    y = columns @ xp.reshape(y, (C * OH, W_, N))
    return xp.reshape(y, (C, OH, OW, N))
