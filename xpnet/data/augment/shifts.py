"""Augmentations that move whole pixels: crops, shifts and flips."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, device_of
from xpnet.data.augment import _checks
from xpnet.data.augment.base import Augmentation, Shape, check_images_of, per_sample
from xpnet.data.augment.sampling import MODES, move_pixels
from xpnet.errors import ArgumentError, ShapeError

__all__ = ["HorizontalFlip", "RandomCrop", "RandomShift", "VerticalFlip"]


@dataclasses.dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Cut a window at a random place out of the image with `padding` around it.

    ``draw`` gives its upper left corner in the padded image, int64 (N, 2) as (row, column), each
    place being as likely. With the default size the image keeps its shape.

    Parameters
    ----------
    padding : int, default 4
        Pixels put on every side.
    size : int or (int, int), optional
        Height and width of the window; by default those of the image.
    mode : {"constant", "edge", "reflect"}, default "constant"
        What the padding shows: `fill`, the nearest pixel, or the image mirrored at its outermost pixels.
    fill : float, default 0
        For ``"constant"``.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.
    ShapeError
        On use, if the window is larger than the padded image or may lie in the padding alone, or ``"reflect"`` has no
        pixels left to mirror.

    References
    ----------
    Lee et al., *Deeply-supervised nets*, arXiv:1409.5185: 4 pixels and flips, the usual recipe for CIFAR-10.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import RandomCrop
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> RandomCrop(padding=1).apply(x, np.array([[0, 2]]))[0, 0]
    array([[0., 0., 0.],
           [1., 2., 0.],
           [4., 5., 0.]])
    """

    padding: int = 4
    size: int | tuple[int, int] | None = None
    mode: str = "constant"
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", _checks.whole("RandomCrop", "padding", self.padding, 0))
        if self.size is not None:
            object.__setattr__(self, "size", _checks.size("RandomCrop", "size", self.size))
        if self.mode not in MODES:
            raise ArgumentError("RandomCrop", f"mode must be one of {', '.join(MODES)}; got {self.mode!r}")
        object.__setattr__(self, "fill", _checks.number("RandomCrop", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        places = [
            had + 2 * self.padding - kept + 1 for had, kept in zip(shape[1:], self.output_shape(shape)[1:], strict=True)
        ]
        return rng.integers(0, places, size=(n, 2))

    def apply(self, x: Array, params: npt.NDArray[np.int64]) -> Array:
        xp = check_images_of(self, x)
        OH, OW = self.output_shape(tuple(x.shape[1:]))[1:]
        corner = per_sample(self, "params", params, x, (2,)) - self.padding
        rows = corner[:, 0] + xp.arange(OH, dtype=xp.int64, device=device_of(x))[:, None]
        cols = corner[:, 1] + xp.arange(OW, dtype=xp.int64, device=device_of(x))[:, None]
        return move_pixels(xp, x, rows, cols, self.mode, self.fill)

    def output_shape(self, shape: Shape) -> Shape:
        C, H, W_ = shape
        OH, OW = (H, W_) if self.size is None else self.size  # type: ignore[misc]
        if max(OH - H, OW - W_) > 2 * self.padding:
            raise ShapeError(
                "RandomCrop",
                f"the window {(OH, OW)} is larger than the image with its padding, "
                f"({H} + 2*{self.padding}, {W_} + 2*{self.padding}); take a smaller size or more padding",
            )
        if self.mode == "reflect" and self.padding >= min(H, W_):
            raise ShapeError(
                "RandomCrop", f'mode="reflect" needs padding below {min(H, W_)} for images {H}x{W_}, got {self.padding}'
            )
        if self.mode != "reflect" and self.padding >= min(OH, OW):
            raise ShapeError(
                "RandomCrop",
                f"padding={self.padding} around images {H}x{W_} makes windows {OH}x{OW} that show nothing of the "
                f"image; take padding below {min(OH, OW)}",
            )
        return C, OH, OW


@dataclasses.dataclass(frozen=True)
class RandomShift(Augmentation):
    """Move the image by whole pixels, up to a maximum in each direction.

    ``draw`` gives the shift down and to the right, int64 (N, 2), each as likely.

    Parameters
    ----------
    max_shift : int or float, default 2
        An int counts pixels; a float from 0 to 1 is a fraction of height and width, rounded down to pixels.
    fill : float, default 0
        Value of the pixels that come in.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.
    ShapeError
        On use, if a shift may be as large as the image, of which nothing would be left.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import RandomShift
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> RandomShift(1).apply(x, np.array([[1, 0]]))[0, 0]
    array([[0., 0.],
           [0., 1.]])
    >>> RandomShift(0.25).draw(2, (1, 8, 4), np.random.default_rng(0))
    array([[ 2,  0],
           [ 0, -1]])
    """

    max_shift: int | float = 2
    fill: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.max_shift, (float, np.floating)):
            found: int | float = _checks.number("RandomShift", "max_shift as a fraction", self.max_shift, 0.0, 1.0)
        else:
            found = _checks.whole("RandomShift", "max_shift in pixels", self.max_shift, 0)
        object.__setattr__(self, "max_shift", found)
        object.__setattr__(self, "fill", _checks.number("RandomShift", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        most = np.array(self._most(shape))
        return rng.integers(-most, most + 1, size=(n, 2))

    def output_shape(self, shape: Shape) -> Shape:
        if any(most >= size for most, size in zip(self._most(shape), shape[1:], strict=True)):
            limit = 1.0 if isinstance(self.max_shift, float) else min(shape[1:])
            raise ShapeError(
                "RandomShift",
                f"max_shift={self.max_shift} leaves nothing of images {shape[1]}x{shape[2]}; take less than {limit}",
            )
        return shape

    def _most(self, shape: Shape) -> list[int]:
        """Return the largest shift in pixels, down and to the right."""
        m = self.max_shift
        return [int(m * size) if isinstance(m, float) else m for size in shape[1:]]

    def apply(self, x: Array, params: npt.NDArray[np.int64]) -> Array:
        xp = check_images_of(self, x)
        shift = per_sample(self, "params", params, x, (2,))
        rows, cols = (
            xp.arange(size, dtype=xp.int64, device=device_of(x))[:, None] - shift[:, k]
            for k, size in enumerate(x.shape[2:])
        )
        return move_pixels(xp, x, rows, cols, "constant", self.fill)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirror left and right with probability `p`.

    ``draw`` gives which ones, bool (N,).

    Parameters
    ----------
    p : float, 0 <= p <= 1, default 0.5

    Raises
    ------
    ArgumentError
        If p is no probability.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import HorizontalFlip
    >>> x = np.arange(4.0).reshape(2, 1, 1, 2)
    >>> HorizontalFlip().apply(x, np.array([True, False]))[:, 0, 0]
    array([[1., 0.],
           [2., 3.]])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", _checks.number("HorizontalFlip", "p", self.p, 0.0, 1.0))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        return rng.random(n) < self.p

    def apply(self, x: Array, params: Any) -> Array:
        return _mirrored(self, x, params, axis=3)


@dataclasses.dataclass(frozen=True)
class VerticalFlip(Augmentation):
    """Mirror top and bottom with probability `p`: for pictures from above or through a microscope.

    ``draw`` gives which ones, bool (N,).

    Parameters
    ----------
    p : float, 0 <= p <= 1, default 0.5

    Raises
    ------
    ArgumentError
        If p is no probability.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import VerticalFlip
    >>> x = np.arange(4.0).reshape(2, 1, 2, 1)
    >>> VerticalFlip().apply(x, np.array([True, False]))[:, 0, :, 0]
    array([[1., 0.],
           [2., 3.]])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", _checks.number("VerticalFlip", "p", self.p, 0.0, 1.0))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        return rng.random(n) < self.p

    def apply(self, x: Array, params: Any) -> Array:
        return _mirrored(self, x, params, axis=2)


def _mirrored(augmentation: Augmentation, x: Array, params: Any, axis: int) -> Array:
    """Return images of which those that `params` names are mirrored along an axis of (N, C, H, W)."""
    xp = check_images_of(augmentation, x)
    mirrored = per_sample(augmentation, "params", params, x)
    inner = xp.permute_dims(x, (1, 2, 3, 0))
    y = xp.where(mirrored, xp.flip(inner, axis=axis - 1), inner)
    return xp.permute_dims(xp.astype(y, x.dtype, copy=False), (3, 0, 1, 2))
