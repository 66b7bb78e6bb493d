"""Augmentations that hide or blend: Cutout and MixUp."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.backend import Array, array_namespace, device_of, is_on_host, wide_dtype
from xpnet.data.augment import _checks
from xpnet.data.augment.base import Augmentation, Shape, check_images_of, per_sample
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional.checks import check_arrays, is_integer

__all__ = ["Cutout", "MixUp", "MixUpParams"]


@dataclasses.dataclass(frozen=True)
class Cutout(Augmentation):
    """Fill a square at a random place.

    Its centre is any pixel, as likely as any other, so near a border less than the square is filled.
    ``draw`` gives its upper left corner, int64 (N, 2) as (row, column), which may be negative.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    fill : float, default 0
        The mean of the images, by the paper; 0 after `Normalize`.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    DeVries and Taylor, *Improved regularization of convolutional neural networks with cutout*, arXiv:1708.04552.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Cutout
    >>> Cutout(2).apply(np.ones((1, 1, 3, 3)), np.array([[1, -1]]))[0, 0]
    array([[1., 1., 1.],
           [0., 1., 1.],
           [0., 1., 1.]])
    """

    size: int | tuple[int, int]
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _checks.size("Cutout", "size", self.size))
        object.__setattr__(self, "fill", _checks.number("Cutout", "fill", self.fill))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(0, shape[1:], size=(n, 2)) - np.array(self.size) // 2

    def apply(self, x: Array, params: npt.NDArray[np.int64]) -> Array:
        xp = check_images_of(self, x)
        corner = per_sample(self, "params", params, x, (2,))

        def covered(k: int) -> Array:
            away = xp.arange(x.shape[2 + k], dtype=xp.int64, device=device_of(x))[:, None] - corner[:, k]
            return (away >= 0) & (away < self.size[k])  # type: ignore[index]

        hidden = covered(0)[:, None, :] & covered(1)[None, :, :]
        y = xp.where(hidden, self.fill, xp.permute_dims(x, (1, 2, 3, 0)))
        return xp.permute_dims(xp.astype(y, x.dtype, copy=False), (3, 0, 1, 2))


class MixUpParams(NamedTuple):
    """What is drawn for each sample: its own share, and the sample that gives the rest."""

    share: npt.NDArray[np.float64]  # (N,)
    partner: npt.NDArray[np.int64]  # (N,), a permutation


@dataclasses.dataclass(frozen=True)
class MixUp(Augmentation):
    """Blend each image, and its label, with another one of the batch.

    ``y[n] = share[n] * x[n] + (1 - share[n]) * x[partner[n]]``, and the same of the one-hot labels, so
    that t comes out as soft targets (N, K), which `xpnet.losses.SoftmaxCrossEntropy` takes. ``draw``
    gives `MixUpParams`: shares of Beta(alpha, alpha), one for each sample, and a permutation.

    Parameters
    ----------
    alpha : float, above 0, default 0.2
        The larger, the nearer to half and half.
    classes : int
        Number of classes K.

    Raises
    ------
    ArgumentError
        If a setting cannot be used; on use, if a label on the host is not from 0 to K - 1 (on a device
        its row is NaN, and so is the loss).
    ShapeError, DTypeError
        On use, if t is neither integers (N,) nor floats (N, K).

    References
    ----------
    Zhang et al., *mixup: beyond empirical risk minimization*, arXiv:1710.09412 (there, one share for the batch).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import MixUp, MixUpParams
    >>> mix = MixUp(classes=3)
    >>> params = MixUpParams(np.array([0.75, 1.0]), np.array([1, 0]))
    >>> x = np.array([0.0, 1.0]).reshape(2, 1, 1, 1)
    >>> mix.apply(x, params).ravel()
    array([0.25, 1.  ])
    >>> mix.targets(np.array([0, 2]), params, x)
    array([[0.75, 0.  , 0.25],
           [0.  , 0.  , 1.  ]])
    """

    alpha: float = 0.2
    classes: int = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _checks.positive("MixUp", "alpha", self.alpha))
        object.__setattr__(self, "classes", _checks.whole("MixUp", "classes", self.classes, 2))

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> MixUpParams:
        return MixUpParams(rng.beta(self.alpha, self.alpha, n), rng.permutation(n))

    def apply(self, x: Array, params: MixUpParams) -> Array:
        xp = check_images_of(self, x)
        inner = xp.astype(xp.permute_dims(x, (1, 2, 3, 0)), wide_dtype(xp, x.dtype), copy=False)
        y = self._blend(xp, inner, params, x)
        return xp.permute_dims(xp.astype(y, x.dtype, copy=False), (3, 0, 1, 2))

    def targets(self, t: Array, params: MixUpParams, x: Array) -> Array:
        xp = array_namespace(x, t)
        soft = xp.astype(self._soft(xp, t, x), wide_dtype(xp, x.dtype), copy=False)
        y = self._blend(xp, xp.permute_dims(soft, (1, 0)), params, x)
        return xp.permute_dims(xp.astype(y, x.dtype, copy=False), (1, 0))

    def _blend(self, xp: Any, a: Array, params: MixUpParams, x: Array) -> Array:
        """Blend along the last axis."""
        rest = per_sample(self, "share", 1.0 - params.share, x)
        y = xp.take(a, per_sample(self, "partner", params.partner, x), axis=len(a.shape) - 1)
        y -= a  # fresh
        y *= rest
        y += a
        return y

    def _soft(self, xp: Any, t: Array, x: Array) -> Array:
        """Return (N, K) targets."""
        N = x.shape[0]
        if len(t.shape) == 2:
            if tuple(t.shape) != (N, self.classes):
                raise ShapeError("MixUp", f"t has shape {tuple(t.shape)}; expected {(N, self.classes)}, or labels (N,)")
            check_arrays("MixUp", x=x, t=t)
            return t
        if not is_integer(xp, t):
            raise DTypeError("MixUp", f"labels t of shape (N,) must be integers, got {t.dtype}")
        t = xp.astype(t, xp.int64, copy=False)
        if is_on_host(t) and not bool(xp.all((t >= 0) & (t < self.classes))):
            raise ArgumentError(
                "MixUp",
                f"labels must be from 0 to {self.classes - 1} for {self.classes} classes, "
                f"got labels from {int(xp.min(t))} to {int(xp.max(t))}; give the number of classes of the data set",
            )
        one_hot = t[:, None] == xp.arange(self.classes, dtype=xp.int64, device=device_of(t))[None, :]
        soft = xp.astype(one_hot, wide_dtype(xp, x.dtype))
        return soft if is_on_host(t) else soft / xp.sum(soft, axis=1, keepdims=True)  # 0/0 = NaN: an invalid label
