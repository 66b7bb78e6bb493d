"""A picture of what each augmentation does to an image."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, device_of, to_numpy
from xpnet.data.augment.affine import RandomAffine, Rotation, Scaling
from xpnet.data.augment.base import Augmentation, Compose
from xpnet.data.augment.mixing import Cutout, MixUp
from xpnet.data.augment.shifts import HorizontalFlip, RandomCrop, RandomShift, VerticalFlip
from xpnet.data.augment.values import Brightness, Contrast
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_images
from xpnet.optional import require
from xpnet.random import generator

__all__ = ["plot_gallery"]

_COLUMNS = 4
_MOST = 32  # images that are computed: MixUp blends the first with any of them


def plot_gallery(
    x: Array,
    augmentations: Sequence[Augmentation] | None = None,
    *,
    ax: Sequence[Any] | None = None,
    seed: int | np.random.Generator = 0,
) -> Any:
    """Draw one image as it is, and once under each augmentation.

    Parameters
    ----------
    x : array (N, C, H, W), float
        The first image is shown, grey with one channel, coloured with three; `MixUp` blends it with
        another one of them.
    augmentations : sequence of Augmentation, optional
        By default one of each kind but `Normalize`, with strong settings.
    ax : sequence of matplotlib axes, optional
        One for the original and one for each augmentation; by default a new figure.
    seed : int or numpy.random.Generator, default 0

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If `x` is no batch of float images with one or three channels, or there are too few axes.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import HorizontalFlip, plot_gallery
    >>> x = np.linspace(0.0, 1.0, 64).reshape(1, 1, 8, 8)
    >>> [axes.get_title() for axes in plot_gallery(x, [HorizontalFlip()]).axes]
    ['original', 'HorizontalFlip()']
    """
    xp = check_arrays("plot_gallery", x=x)
    check_images("plot_gallery", x)
    if x.shape[1] not in (1, 3):
        raise ShapeError("plot_gallery", f"x has {x.shape[1]} channels; pictures have 1 or 3")
    x = x[: min(_MOST, x.shape[0]), ...]
    rng = generator(seed)
    t = xp.zeros(x.shape[0], dtype=xp.int64, device=device_of(x))
    pictures = {"original": x}
    for augment in _one_of_each(x) if augmentations is None else augmentations:
        pictures[_label(augment)] = augment(x, t, rng)[0]
    if ax is None:
        columns = min(len(pictures), _COLUMNS)
        rows = -(-len(pictures) // columns)
        figure = require("matplotlib.figure", "plotting").Figure(
            figsize=(2.4 * columns, 2.6 * rows), layout="constrained"
        )
        ax = [figure.add_subplot(rows, columns, i + 1) for i in range(len(pictures))]
    if len(ax) < len(pictures):
        raise ArgumentError("plot_gallery", f"{len(pictures)} axes needed, one for each picture; got {len(ax)}")
    original = to_numpy(x)[0]
    low, high = float(original.min()), float(original.max())
    for axes, (label, picture) in zip(ax, pictures.items(), strict=False):
        shown = (to_numpy(picture)[0].transpose(1, 2, 0) - low) / (high - low or 1.0)
        axes.imshow(shown.clip(0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0)  # both ignored for colours
        axes.set_title(textwrap.fill(label, 24, break_long_words=False), fontsize=8)
        axes.set_axis_off()
    return ax[0].figure


def _one_of_each(x: Array) -> list[Augmentation]:
    """Return what shows clearly on these images."""
    side = min(x.shape[2:])
    spread = float(to_numpy(x).max() - to_numpy(x).min())
    return [
        RandomCrop(padding=side // 4),
        RandomShift(0.25),
        HorizontalFlip(1.0),
        VerticalFlip(1.0),
        RandomAffine(30, (0.7, 1.3), 0.1),
        Rotation(45),
        Scaling((0.5, 1.5)),
        Brightness(0.5 * spread),
        Contrast(0.8),
        Cutout(max(1, side // 3)),
        MixUp(8.0, classes=2),
    ]


def _label(augmentation: Augmentation) -> str:
    """Return the name with the settings that are not the defaults."""
    if isinstance(augmentation, Compose):
        return ", ".join(_label(part) for part in augmentation.augmentations) or "Compose()"
    fields: tuple[Any, ...] = dataclasses.fields(augmentation) if dataclasses.is_dataclass(augmentation) else ()
    settings = [(f.name, getattr(augmentation, f.name), f.default) for f in fields]
    shown = ", ".join(f"{name}={_short(value)}" for name, value, default in settings if value != default)
    return f"{type(augmentation).__name__}({shown})"


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
