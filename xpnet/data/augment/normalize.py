"""Normalisation of the channels, with the numbers of a training set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, array_namespace, device_of, is_on_host, to_numpy, wide_dtype
from xpnet.data.augment import _checks
from xpnet.data.augment.base import Augmentation, Shape, check_images_of
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_arrays, check_images, is_integer

__all__ = ["Normalize"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Normalize(Augmentation):
    """Take a mean off each channel and divide it by a standard deviation: ``y = (x - mean) / std``.

    Nothing is drawn, so ``Normalize(...).apply(x)`` prepares the images of a test too.

    Parameters
    ----------
    mean, std : float or sequence of C floats
        Those of the training set (see `fit`) make mean 0 and standard deviation 1 of it; std must be above 0.

    Raises
    ------
    ArgumentError
        If a number cannot be used, or there are two or more of both but not as many.
    ShapeError
        On use, if the images have another number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Normalize
    >>> x = np.array([0, 255, 51, 204], dtype=np.uint8).reshape(4, 1, 1, 1)
    >>> normalize = Normalize.fit(x)
    >>> normalize.mean, round(normalize.std[0], 4)
    ((0.5,), 0.4123)
    >>> normalize.apply(x / 255.0)[:, 0, 0, 0].round(4)
    array([-1.2127,  1.2127, -0.7276,  0.7276])
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]

    def __post_init__(self) -> None:
        mean, std = _per_channel("mean", self.mean), _per_channel("std", self.std)
        if len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ArgumentError("Normalize", f"there are {len(mean)} means but {len(std)} standard deviations")
        if min(std) <= 0.0:
            raise ArgumentError("Normalize", f"std must be above 0, got {std}; leave out a channel that is constant")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @classmethod
    def fit(cls, x: Array, *, scale: tuple[float, float] | None = None, batch_size: int = 100) -> Normalize:
        """Measure mean and standard deviation of each channel of a training set.

        Goes through the images batch by batch, in float64 on the host and at least float32 on a device.

        Parameters
        ----------
        x : array (N, C, H, W) of integers or floats
        scale : (float, float), optional
            ``(a, b)`` gives the numbers for images ``x * a + b``, as `xpnet.data.Loader` makes them. By
            default uint8 is divided by 255, as there, and floats are left as they are.
        batch_size : int, default 100

        Returns
        -------
        Normalize
            With the standard deviation of the population (divided by the number of pixels).

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            If `x` is no batch of images, a setting cannot be used, or a channel is constant or not finite.
        """
        op = "Normalize.fit"
        xp = array_namespace(x)
        check_images(op, x)
        batch_size = _checks.whole(op, "batch_size", batch_size, 1)
        a, b = _scale(op, xp, x, scale)
        mean, squares = _mean_and_squares(xp, x, batch_size)
        std = abs(a) * np.sqrt(squares)
        if not np.isfinite(std).all() or not std.all():
            raise ArgumentError(
                op,
                f"the standard deviations of the channels are {std.tolist()}; each must be finite and above 0: "
                "look for NaN in x, and leave out a channel that is constant",
            )
        return cls((a * mean + b).tolist(), std.tolist())

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> None:
        return None

    def apply(self, x: Array, params: None = None) -> Array:
        xp = check_images_of(self, x)
        dtype = wide_dtype(xp, x.dtype)
        mean, std = (xp.asarray(v, dtype=dtype, device=device_of(x)) for v in (self.mean, self.std))
        for name, v in (("means", mean), ("standard deviations", std)):
            if v.shape[0] not in (1, x.shape[1]):
                raise ShapeError(
                    "Normalize", f"x has {x.shape[1]} channels but there are {v.shape[0]} {name}; give one, or one each"
                )
        y = xp.astype(xp.permute_dims(x, (1, 2, 3, 0)), dtype, copy=False) - mean[:, None, None, None]
        y /= std[:, None, None, None]
        return xp.permute_dims(xp.astype(y, x.dtype, copy=False), (3, 0, 1, 2))


def _mean_and_squares(xp: Any, x: Array, batch_size: int) -> tuple[Floats, Floats]:
    """Return mean and variance of each channel, merged from those of the batches (Chan, Golub, LeVeque 1979)."""
    dtype = xp.float64 if is_on_host(x) else xp.float32 if is_integer(xp, x) else wide_dtype(xp, x.dtype)
    mean = variance = np.zeros(x.shape[1])
    for start in range(0, x.shape[0], batch_size):
        part = xp.astype(x[start : min(start + batch_size, x.shape[0]), ...], dtype)
        centre = xp.mean(part, axis=(0, 2, 3), keepdims=True)
        spread = xp.mean(xp.square(part - centre), axis=(0, 2, 3))
        new_mean, new_variance = (to_numpy(v).astype(np.float64) for v in (xp.reshape(centre, (x.shape[1],)), spread))
        share = part.shape[0] / (start + part.shape[0])
        gap = new_mean - mean
        mean = mean + share * gap
        variance = (1.0 - share) * (variance + share * gap**2) + share * new_variance
    return mean, variance


def _scale(op: str, xp: Any, x: Array, scale: tuple[float, float] | None) -> tuple[float, float]:
    if scale is not None:
        try:
            a, b = scale
        except (TypeError, ValueError):
            raise ArgumentError(op, f"scale must be two numbers (a, b), got {scale!r}") from None
        return _checks.number(op, "scale[0]", a), _checks.number(op, "scale[1]", b)
    if x.dtype == xp.uint8:
        return 1.0 / 255.0, 0.0
    if is_integer(xp, x):
        raise ArgumentError(
            op, f"x holds {x.dtype}; give the scale=(a, b) of the loader, which makes x * a + b of integers"
        )
    check_arrays(op, x=x)
    return 1.0, 0.0


def _per_channel(name: str, value: Any) -> tuple[float, ...]:
    try:
        values = list(value)
    except TypeError:
        values = [value]
    if not values:
        raise ArgumentError("Normalize", f"{name} must be a number, or one for each channel; got {value!r}")
    return tuple(_checks.number("Normalize", name, v) for v in values)
