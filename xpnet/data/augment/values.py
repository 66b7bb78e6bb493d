"""Augmentations that change the values of pixels: brightness and contrast."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, bounded, wide_dtype
from xpnet.data.augment import _checks
from xpnet.data.augment.base import Augmentation, Shape, check_images_of, per_sample

__all__ = ["Brightness", "Contrast"]

Floats = npt.NDArray[np.float64]
Range = tuple[float, float]


def _clip(op: str, value: Range | None) -> Range | None:
    return None if value is None else _checks.interval(op, "clip", value)


def _finish(xp: Any, inner: Array, clip: Range | None, dtype: Any) -> Array:
    """Return (C, H, W, N) as (N, C, H, W), cut to a range if there is one, in its final type."""
    if clip is not None:
        inner = bounded(xp, inner, *clip)
    return xp.permute_dims(xp.astype(inner, dtype, copy=False), (3, 0, 1, 2))


def _inner(xp: Any, x: Array) -> Array:
    """Return `x` as (C, H, W, N) in at least float32."""
    return xp.astype(xp.permute_dims(x, (1, 2, 3, 0)), wide_dtype(xp, x.dtype), copy=False)


@dataclasses.dataclass(frozen=True)
class Brightness(Augmentation):
    """Add a random number to all pixels of an image: ``y = x + delta``.

    ``draw`` gives delta, (N,), uniform from -max_delta to max_delta.

    Parameters
    ----------
    max_delta : float, default 0.2
        In units of the pixels: a fifth of the range for images from 0 to 1.
    clip : (float, float), optional
        Range to cut the result to; by default it may leave that of `x`.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Brightness
    >>> x = np.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    >>> Brightness(0.5, clip=(0, 1)).apply(x, np.array([0.25]))[0, 0]
    array([[0.25, 0.75, 1.  ]])
    """

    max_delta: float = 0.2
    clip: Range | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_delta", _checks.number("Brightness", "max_delta", self.max_delta, 0.0))
        object.__setattr__(self, "clip", _clip("Brightness", self.clip))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> Floats:
        return rng.uniform(-self.max_delta, self.max_delta, n)

    def apply(self, x: Array, params: Floats) -> Array:
        xp = check_images_of(self, x)
        return _finish(xp, _inner(xp, x) + per_sample(self, "params", params, x), self.clip, x.dtype)


@dataclasses.dataclass(frozen=True)
class Contrast(Augmentation):
    """Stretch the values of an image about their mean: ``y = mean + factor * (x - mean)``.

    The mean is over the pixels and channels of each image. ``draw`` gives the factor, (N,), uniform
    from 1 - max_change to 1 + max_change.

    Parameters
    ----------
    max_change : float, 0 <= max_change <= 1, default 0.2
    clip : (float, float), optional
        Range to cut the result to; by default it may leave that of `x`.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Contrast
    >>> x = np.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    >>> Contrast(0.5).apply(x, np.array([0.5]))[0, 0]
    array([[0.25, 0.5 , 0.75]])
    """

    max_change: float = 0.2
    clip: Range | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_change", _checks.number("Contrast", "max_change", self.max_change, 0.0, 1.0))
        object.__setattr__(self, "clip", _clip("Contrast", self.clip))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> Floats:
        return rng.uniform(1.0 - self.max_change, 1.0 + self.max_change, n)

    def apply(self, x: Array, params: Floats) -> Array:
        xp = check_images_of(self, x)
        inner = _inner(xp, x)
        # rows first: one long running sum over all pixels would lose digits in float32
        mean = xp.mean(xp.mean(inner, axis=2), axis=(0, 1))
        y = inner - mean
        y *= per_sample(self, "params", params, x)
        y += mean
        return _finish(xp, y, self.clip, x.dtype)
