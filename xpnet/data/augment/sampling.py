"""Moving pixels: whole ones by index, others by bilinear interpolation.

Both work on the batch-innermost view (C, H, W, N) and look pixels up in the flattened image, where all
channels share one index. Pixels outside of the image come from a frame of one pixel put around it.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, bounded, device_of, is_on_host, wide_dtype
from xpnet.kernels.layout import batch_first, batch_innermost

__all__ = ["MODES", "bilinear", "move_pixels"]

MODES = ("constant", "edge", "reflect")  # what lies outside of an image; the names are those of numpy.pad
_HOST_BLOCK, _DEVICE_BLOCK = 1 << 15, 1 << 22  # pixels interpolated at a time: in cache, or in few launches


def move_pixels(xp: Any, x: Array, rows: Array, cols: Array, mode: str, fill: float) -> Array:
    """Return ``y[n, c, i, j] = x[n, c, rows[i, n], cols[j, n]]``.

    Parameters
    ----------
    xp : namespace
    x : array (N, C, H, W)
    rows : array of int64 (OH, N)
        May lie outside of the image; with ``"reflect"``, less than its height away.
    cols : array of int64 (OW, N)
    mode : {"constant", "edge", "reflect"}
    fill : float
        Value of pixels outside, for ``"constant"``.

    Returns
    -------
    array (N, C, OH, OW), the type of `x`
        In memory the batch is the innermost axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.backend import array_namespace
    >>> from xpnet.data.augment.sampling import move_pixels
    >>> x = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> rows, cols = np.array([[1], [2]]), np.array([[-1], [0]])
    >>> move_pixels(array_namespace(x), x, rows, cols, "constant", 9.0)[0, 0]
    array([[9., 3.],
           [9., 9.]])
    """
    H, W_ = x.shape[2:]
    if mode == "constant":
        image = _framed(xp, x, fill, x.dtype)
        rows, cols = bounded(xp, rows, -1, H) + 1, bounded(xp, cols, -1, W_) + 1
    else:
        image = batch_innermost(xp, x)
        if mode == "reflect":
            rows, cols = (last - xp.abs(last - xp.abs(i)) for i, last in ((rows, H - 1), (cols, W_ - 1)))
        else:
            rows, cols = bounded(xp, rows, 0, H - 1), bounded(xp, cols, 0, W_ - 1)
    return batch_first(xp, _look_up(xp, image, _index(xp, image, rows[:, None, :], cols[None, :, :])))


def bilinear(xp: Any, x: Array, matrix: Array, fill: float) -> Array:
    """Draw each image anew through an affine map, with bilinear interpolation.

    Row and column count pixel centres from the centre of the image, ``i - (H - 1) / 2``. The pixel of
    the output at (row, col) is the value of the input at ``matrix[:, :2] @ (row, col) + matrix[:, 2]``,
    a mean of the four pixels around, each weighted by its nearness; pixels outside are `fill`. That is
    ``torch.nn.functional.grid_sample(align_corners=False, padding_mode="zeros")`` and
    ``scipy.ndimage.affine_transform(order=1, mode="grid-constant")``.

    Parameters
    ----------
    xp : namespace
    x : array (N, C, H, W)
    matrix : array (2, 3, N), float
        From output to input, in pixels.
    fill : float

    Returns
    -------
    array (N, C, H, W), the type of `x`
        In memory the batch is the innermost axis. Computed in at least float32.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.backend import array_namespace
    >>> from xpnet.data.augment.sampling import bilinear
    >>> x = np.array([0.0, 4.0, 8.0]).reshape(1, 1, 1, 3)
    >>> half_a_pixel = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]]).reshape(2, 3, 1)
    >>> bilinear(array_namespace(x), x, half_a_pixel, 0.0)[0, 0]
    array([[2., 6., 4.]])
    """
    N, _, H, W_ = x.shape
    image = _framed(xp, x, fill, wide_dtype(xp, x.dtype))

    def centred(size: int) -> Array:
        return xp.arange(size, dtype=image.dtype, device=device_of(x)) - 0.5 * (size - 1)

    row, col = centred(H)[:, None, None], centred(W_)[None, :, None]
    step = max(1, (_HOST_BLOCK if is_on_host(x) else _DEVICE_BLOCK) // (W_ * N))
    parts = []
    for start in range(0, H, step):
        block = row[start : min(start + step, H), ...]
        to_row, to_col = (
            matrix[k, 0, ...] * block + matrix[k, 1, ...] * col + (matrix[k, 2, ...] + 0.5 * (size - 1))
            for k, size in enumerate((H, W_))
        )
        parts.append(_interpolate(xp, image, to_row, to_col))
    y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=1)
    return batch_first(xp, xp.astype(y, x.dtype, copy=False))


def _framed(xp: Any, x: Array, fill: float, dtype: Any) -> Array:
    """Return `x` as (C, H + 2, W + 2, N): a frame of one pixel stands for all that is outside."""
    N, C, H, W_ = x.shape
    image = xp.full((C, H + 2, W_ + 2, N), fill, dtype=dtype, device=device_of(x))
    image[:, 1:-1, 1:-1, :] = xp.astype(xp.permute_dims(x, (1, 2, 3, 0)), dtype, copy=False)
    return image


def _index(xp: Any, image: Array, rows: Array, cols: Array) -> Array:
    """Return where the pixels at rows and cols, which broadcast to (OH, OW, N), lie in a flattened channel."""
    W_, N = image.shape[2:]
    return rows * (W_ * N) + (cols * N + xp.arange(N, dtype=xp.int64, device=device_of(image)))


def _look_up(xp: Any, image: Array, index: Array) -> Array:
    """Return (C, OH, OW, N): the pixels that `_index` found in `image` (C, H, W, N)."""
    C, H, W_, N = image.shape
    y = xp.take(xp.reshape(image, (C, H * W_ * N)), xp.reshape(index, (-1,)), axis=1)
    return xp.reshape(y, (C, *index.shape))


def _interpolate(xp: Any, image: Array, rows: Array, cols: Array) -> Array:
    """Return the values of a framed image between its pixels; row 0 is the first inside of the frame."""
    _, H, W_, N = image.shape
    top, left = bounded(xp, xp.floor(rows), -1.0, H - 3.0), bounded(xp, xp.floor(cols), -1.0, W_ - 3.0)
    down, right = bounded(xp, rows - top, 0.0, 1.0), bounded(xp, cols - left, 0.0, 1.0)
    index = _index(xp, image, xp.astype(top, xp.int64) + 1, xp.astype(left, xp.int64) + 1)

    def row(first: Array) -> Array:
        return between(_look_up(xp, image, first), _look_up(xp, image, first + N), right)

    def between(a: Array, b: Array, weight: Array) -> Array:
        b -= a  # b is ours
        b *= weight
        b += a
        return b

    return between(row(index), row(index + W_ * N), down)
