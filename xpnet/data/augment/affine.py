"""Augmentations that turn and scale images, by bilinear interpolation (see `sampling.bilinear`)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array
from xpnet.data.augment import _checks
from xpnet.data.augment.base import Augmentation, Shape, check_images_of, per_sample
from xpnet.data.augment.sampling import bilinear
from xpnet.errors import ArgumentError

__all__ = ["AffineParams", "RandomAffine", "Rotation", "Scaling", "affine_matrices"]

Floats = npt.NDArray[np.float64]


class AffineParams(NamedTuple):
    """What is drawn for each sample: turn by `angle`, enlarge by `scale`, then shift; about the image's centre."""

    angle: Floats  # (N,), degrees counterclockwise
    scale: Floats  # (N,), above 1 enlarges
    shift: Floats  # (N, 2), pixels down and to the right


def affine_matrices(params: AffineParams) -> Floats:
    """Return the maps from output to input, (N, 2, 3), in pixels (row, column) from the centre of the image.

    Turns by multiples of 90 degrees are exact.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import AffineParams, affine_matrices
    >>> affine_matrices(AffineParams(np.array([90.0]), np.array([2.0]), np.array([[0.0, 3.0]])))[0]
    array([[ 0. ,  0.5, -1.5],
           [-0.5,  0. ,  0. ]])
    """
    quarters = np.round(params.angle / 90.0)
    rest = np.deg2rad(params.angle - 90.0 * quarters)
    turned = np.exp(1j * rest) * np.array([1, 1j, -1, -1j])[(quarters % 4).astype(np.int64)] / params.scale
    c, s = turned.real + 0.0, turned.imag + 0.0  # no negative zeros
    linear = np.stack([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)], axis=-2)
    return np.concatenate([linear, 0.0 - linear @ params.shift[:, :, None]], axis=2)


class _Affine(Augmentation):
    """What the three share: `draw` gives `AffineParams`."""

    fill: float

    def apply(self, x: Array, params: AffineParams) -> Array:
        xp = check_images_of(self, x)
        matrices = per_sample(self, "params", affine_matrices(params), x, (2, 3))
        return bilinear(xp, x, xp.permute_dims(matrices, (1, 2, 0)), self.fill)


@dataclasses.dataclass(frozen=True)
class RandomAffine(_Affine):
    """Turn, scale and shift at random, in one interpolation.

    ``draw`` gives `AffineParams`, each number uniform in its range.

    Parameters
    ----------
    degrees : float or (float, float), default 0
        Largest angle in either direction, or the range of angles, counterclockwise.
    scale : (float, float), default (1, 1)
        Range of the factor, the same for height and width; above 1 enlarges.
    shift : float, 0 <= shift <= 1, default 0
        Largest shift in either direction, as a fraction of height and width.
    fill : float, default 0
        Value of what lies outside of the image.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import RandomAffine
    >>> augment = RandomAffine(degrees=15, scale=(0.9, 1.1), shift=0.1)
    >>> x, t = augment(np.ones((2, 1, 8, 8)), np.array([3, 4]), np.random.default_rng(0))
    >>> x.shape
    (2, 1, 8, 8)
    """

    degrees: float | tuple[float, float] = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", _angles("RandomAffine", self.degrees))
        object.__setattr__(self, "scale", _factors("RandomAffine", self.scale))
        object.__setattr__(self, "shift", _checks.number("RandomAffine", "shift", self.shift, 0.0, 1.0))
        object.__setattr__(self, "fill", _checks.number("RandomAffine", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> AffineParams:
        most = self.shift * np.array(shape[1:], dtype=np.float64)
        lowest, highest = self.degrees  # type: ignore[misc]
        return AffineParams(
            rng.uniform(lowest, highest, n), rng.uniform(*self.scale, n), rng.uniform(-most, most, (n, 2))
        )


@dataclasses.dataclass(frozen=True)
class Rotation(_Affine):
    """Turn about the centre by a random angle; the corners that come in are `fill`.

    ``draw`` gives `AffineParams` with the angle uniform in its range.

    Parameters
    ----------
    degrees : float or (float, float), default 15
        Largest angle in either direction, or the range of angles, counterclockwise.
    fill : float, default 0

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Rotation
    >>> quarter = Rotation((90, 90))
    >>> x, t = quarter(np.arange(4.0).reshape(1, 1, 2, 2), np.array([7]), np.random.default_rng(0))
    >>> x[0, 0]
    array([[1., 3.],
           [0., 2.]])
    """

    degrees: float | tuple[float, float] = 15.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", _angles("Rotation", self.degrees))
        object.__setattr__(self, "fill", _checks.number("Rotation", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> AffineParams:
        lowest, highest = self.degrees  # type: ignore[misc]
        return AffineParams(rng.uniform(lowest, highest, n), np.ones(n), np.zeros((n, 2)))


@dataclasses.dataclass(frozen=True)
class Scaling(_Affine):
    """Enlarge or shrink about the centre by a random factor; the image keeps its size.

    ``draw`` gives `AffineParams` with the factor uniform in its range.

    Parameters
    ----------
    scale : (float, float), default (0.8, 1.2)
        Range of the factor, the same for height and width; above 1 enlarges.
    fill : float, default 0
        What appears around an image that got smaller.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Scaling
    >>> half = Scaling((0.5, 0.5))
    >>> x, t = half(np.ones((1, 1, 1, 4)), np.array([7]), np.random.default_rng(0))
    >>> x[0, 0]
    array([[0., 1., 1., 0.]])
    """

    scale: tuple[float, float] = (0.8, 1.2)
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _factors("Scaling", self.scale))
        object.__setattr__(self, "fill", _checks.number("Scaling", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> AffineParams:
        return AffineParams(np.zeros(n), rng.uniform(*self.scale, n), np.zeros((n, 2)))


def _angles(op: str, value: Any) -> tuple[float, float]:
    if isinstance(value, (tuple, list)):
        return _checks.interval(op, "degrees", value)
    most = _checks.number(op, "degrees", value, 0.0)
    return -most, most


def _factors(op: str, value: Any) -> tuple[float, float]:
    low, high = _checks.interval(op, "scale", value)
    if low <= 0.0:
        raise ArgumentError(op, f"scale must be (low, high) with low above 0, got {value!r}")
    return low, high
