"""The classical image filters: convolutions with kernels written down, not learnt.

>>> import numpy as np
>>> from xpnet import filters
>>> image = np.zeros((5, 5), np.uint8)
>>> image[:, 3:] = 100
>>> filters.apply(image, "vertical_edge")[0]
array([  0,   0, 255, 255,   0], dtype=uint8)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, array_namespace, bounded, device_of, is_half, to_numpy, wide_dtype
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional import conv2d_forward
from xpnet.optional import require
from xpnet.text import no_such

__all__ = ["apply", "kernel", "names", "plot"]

Kernel = npt.NDArray[np.float64]

_BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])

_KERNELS: dict[str, Any] = {
    "horizontal_edge": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "vertical_edge": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "sobel_x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel_y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "gaussian_blur_3x3": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16,
    "gaussian_blur_5x5": _BINOMIAL / 256,
    "edge_enhancement": [[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]],
    "mean_3x3": np.ones((3, 3)) / 9,
}


def names() -> list[str]:
    """Return the names of the filters, edges first.

    Examples
    --------
    >>> from xpnet import filters
    >>> filters.names()[:4]
    ['horizontal_edge', 'vertical_edge', 'sobel_x', 'sobel_y']
    """
    return list(_KERNELS)


def kernel(name: str) -> Kernel:
    """Return the kernel of a filter.

    =====================  ==================================================================
    ``horizontal_edge``    difference of the rows below and above (Prewitt): horizontal edges
    ``vertical_edge``      the same of the columns to the right and left
    ``sobel_x``            derivative along a row, smoothed across: vertical edges
    ``sobel_y``            derivative down a column: horizontal edges
    ``laplacian``          sum of the second derivatives: any edge, and points
    ``sharpen``            the image less its Laplacian
    ``gaussian_blur_3x3``  binomial weights over 16
    ``gaussian_blur_5x5``  binomial weights over 256
    ``edge_enhancement``   nine times the pixel, less its eight neighbours
    ``mean_3x3``           the mean of nine pixels
    =====================  ==================================================================

    Parameters
    ----------
    name : str

    Returns
    -------
    ndarray of float64, (3, 3) or (5, 5)
        A new one each time. It is laid on the image as it stands (cross-correlation, not flipped).

    Raises
    ------
    ArgumentError
        If there is no such filter.

    Examples
    --------
    >>> from xpnet import filters
    >>> filters.kernel("sobel_x")
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """
    if name not in _KERNELS:
        raise ArgumentError("filters.kernel", no_such("filter", name, names()))
    return np.array(_KERNELS[name], dtype=np.float64)


def apply(image: Array, filter: str | Any, *, clip: bool = True) -> Array:
    """Filter an image, each channel by itself, with `conv2d_forward` in the library that holds it.

    The result has the shape of the image. Beyond its border the outermost pixels are repeated, so a
    blurred picture gets no dark frame and a plain one shows no edges.

    Parameters
    ----------
    image : array (H, W), (H, W, 3) or (N, C, H, W), of uint8 or float
        With values from 0 to 255. Of any backend; `xpnet.backend.asarray` moves one to that selected.
    filter : str or array (KH, KW)
        One of `names`, or weights of your own with odd height and width.
    clip : bool, default True
        Cut the result to 0..255. False keeps negative responses, and gives floats for uint8 too.

    Returns
    -------
    array
        Of uint8 for uint8 if clipped, rounded to the nearest; else of the image's float type, or float32.

    Raises
    ------
    ArgumentError
        If there is no such filter, or the weights cannot be used.
    ShapeError, DTypeError
        If the image has another shape or type.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import filters
    >>> image = np.array([[0, 0, 9], [0, 0, 9], [0, 0, 9]], dtype=np.uint8)
    >>> filters.apply(image, "mean_3x3")
    array([[0, 3, 6],
           [0, 3, 6],
           [0, 3, 6]], dtype=uint8)
    >>> filters.apply(image, "laplacian", clip=False)[1]
    array([ 0.,  9., -9.], dtype=float32)
    """
    op = "filters.apply"
    xp = array_namespace(image)
    is_float = is_half(xp, image.dtype) or xp.isdtype(image.dtype, "real floating")
    if not is_float and image.dtype != xp.uint8:
        raise DTypeError(op, f"image must hold uint8 or floats, got {image.dtype} (shape {tuple(image.shape)})")
    weights = kernel(filter) if isinstance(filter, str) else _weights(op, filter)
    dtype = wide_dtype(xp, image.dtype) if is_float else xp.float32
    x = xp.astype(_as_batch(op, xp, image), dtype, copy=False)
    for axis, size in zip((2, 3), weights.shape, strict=True):
        x = _extended(xp, x, axis, size // 2)
    C = x.shape[1]
    W = xp.asarray(np.array(np.broadcast_to(weights, (C, 1, *weights.shape))), dtype=dtype, device=device_of(image))
    y, _ = conv2d_forward(x, W, groups=C)
    if clip:
        y = bounded(xp, y, 0.0, 255.0)
    if is_float:
        y = xp.astype(y, image.dtype, copy=False)
    elif clip:
        y = xp.astype(xp.round(y), xp.uint8)
    return _as_image(xp, y, len(image.shape))


def _weights(op: str, filter: Any) -> Kernel:
    try:
        weights = np.array(filter if isinstance(filter, (list, tuple)) else to_numpy(filter), dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.ndim != 2 or not all(size % 2 for size in weights.shape) or not np.isfinite(weights).all():
        raise ArgumentError(
            op,
            "filter must be a name or an array (KH, KW) of finite numbers with odd KH and KW, "
            f"got {str(filter)[:60]!r}" + (f" of shape {weights.shape}" if weights.size else ""),
        )
    return weights


def _as_batch(op: str, xp: Any, image: Array) -> Array:
    shape = tuple(image.shape)
    if 0 in shape:
        raise ShapeError(op, f"image is empty: its shape is {shape}")
    if len(shape) == 2:
        return image[None, None, ...]
    if len(shape) == 3 and shape[2] == 3:
        return xp.permute_dims(image, (2, 0, 1))[None, ...]
    if len(shape) == 4:
        return image
    raise ShapeError(op, f"image must have shape (H, W), (H, W, 3) or (N, C, H, W), got {shape}")


def _as_image(xp: Any, y: Array, ndim: int) -> Array:
    if ndim == 4:
        return y
    return y[0, 0, ...] if ndim == 2 else xp.permute_dims(y[0, ...], (1, 2, 0))


def _extended(xp: Any, x: Array, axis: int, by: int) -> Array:
    """Repeat the first and the last pixel of an axis."""
    size = x.shape[axis]
    where = bounded(xp, xp.arange(-by, size + by, dtype=xp.int64, device=device_of(x)), 0, size - 1)
    return xp.take(x, where, axis=axis)


def plot(image: Array, filters: Sequence[str] | None = None, *, ax: Sequence[Any] | None = None) -> Any:
    """Draw an image as it is, and through each filter, as a labelled grid.

    Parameters
    ----------
    image : array (H, W) or (H, W, 3), of uint8 or float
        With values from 0 to 255, of any backend; see `apply`.
    filters : sequence of str, optional
        By default all `names`.
    ax : sequence of matplotlib axes, optional
        One for the original and one for each filter; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        If `apply` refuses the image or a filter, or there are too few axes.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import filters
    >>> figure = filters.plot(np.eye(8) * 255.0, ["sobel_x", "sharpen"])
    >>> [axes.get_title() for axes in figure.axes]
    ['original', 'sobel_x', 'sharpen']
    """
    if len(image.shape) not in (2, 3):
        raise ShapeError("filters.plot", f"image must have shape (H, W) or (H, W, 3), got {tuple(image.shape)}")
    pictures = {"original": image} | {name: apply(image, name) for name in (names() if filters is None else filters)}
    if ax is None:
        rows = math.ceil(len(pictures) / 4)
        columns = math.ceil(len(pictures) / rows)
        figure = require("matplotlib.figure", "plotting").Figure(
            figsize=(3 * columns, 2.5 * rows), layout="constrained"
        )
        ax = [figure.add_subplot(rows, columns, i + 1) for i in range(len(pictures))]
    if len(ax) < len(pictures):
        raise ArgumentError("filters.plot", f"{len(pictures)} axes needed, one for each picture; got {len(ax)}")
    for axes, (name, picture) in zip(ax, pictures.items(), strict=False):
        axes.imshow(to_numpy(picture).clip(0, 255) / 255.0, cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_title(name)
        axes.set_axis_off()
    return ax[0].figure
