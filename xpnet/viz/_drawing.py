"""What the pictures share: figures that need no display, axes given or made, images side by side in one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.optional import require

GREY = "gray"


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that belongs to no window; sizes in inches."""
    return require("matplotlib.figure", "plotting").Figure(figsize=(width, height), layout="constrained")


def axes_for(
    operation: str,
    ax: Any,
    count: int,
    what: str,
    *,
    columns: int | None = None,
    size: tuple[float, float] = (3.2, 3.2),
) -> list[Any]:
    """Return `count` axes: the ones given (one, or a sequence of at least as many), or those of a new figure.

    Raises
    ------
    ValueError
        If too few are given; the message says `what` they are for.
    """
    if ax is None:
        columns = min(count, columns or count)
        rows = -(-count // columns)
        figure = new_figure(size[0] * columns, size[1] * rows)
        return [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    given = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(given) < count:
        raise ValueError(f"{operation}: {count} axes needed, {what}; got {len(given)}")
    return given[:count]


def picture(image: np.ndarray) -> np.ndarray:
    """Return an image (C, H, W) as matplotlib shows it: (H, W, 3) in 0..1 of three channels, else the mean (H, W)."""
    if image.shape[0] != 3:
        return image.mean(axis=0)
    image = np.moveaxis(image, 0, -1)
    if image.dtype.kind in "ui":
        return image / np.float32(255)
    return image if image.min() >= 0.0 and image.max() <= 1.0 else unit_range(image)


def unit_range(x: np.ndarray) -> np.ndarray:
    """Bring values to 0..1, from the smallest to the largest; a constant becomes 0.5."""
    low, high = float(x.min()), float(x.max())
    return np.full(x.shape, 0.5) if low == high else (x - low) / (high - low)


def mosaic(pictures: list[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Lay pictures of one size side by side, a pixel apart, in rows of `columns` (by default about a square).

    What no picture covers is NaN, which matplotlib leaves blank, or white where there are colours.
    """
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    h, w, *colours = pictures[0].shape
    rows = -(-len(pictures) // columns)
    whole = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, *colours), 1.0 if colours else np.nan)
    for i, one in enumerate(pictures):
        top, left = i // columns * (h + 1), i % columns * (w + 1)
        whole[top : top + h, left : left + w] = one
    return whole


def show(ax: Any, image: np.ndarray, title: str = "", **options: Any) -> Any:
    """Draw an image without ticks; grey where it has no colours."""
    drawn = ax.imshow(image, **({"cmap": GREY} if image.ndim == 2 else {}) | options)
    ax.set_xticks([])
    ax.set_yticks([])
    if title:
        ax.set_title(title)
    return drawn
