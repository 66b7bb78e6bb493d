"""What an augmentation is: parameters drawn on the host, pixels computed where they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpnet.backend import Array, array_namespace, device_of, wide_dtype
from xpnet.errors import DTypeError, ShapeError
from xpnet.functional.checks import check_arrays, check_images
from xpnet.functional.loss_checks import check_place
from xpnet.random import generator

__all__ = ["Augmentation", "Compose"]

Shape = tuple[int, int, int]


class Augmentation:
    """Base of the augmentations: ``x, t = augment(x, t, rng)``.

    A subclass gives `draw`, which turns random numbers into a few parameters per sample, and `apply`,
    which needs no random numbers any more. Parameters are small NumPy arrays drawn on the host, so
    the same `rng` gives the same pictures on every backend; pixels never leave their device.
    """

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> Any:
        """Return the parameters of `n` samples of shape (C, H, W); what they are, each class says."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(n, shape, rng)")

    def apply(self, x: Array, params: Any) -> Array:
        """Return the samples `x` (N, C, H, W) under parameters that `draw` gave for as many."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(x, params)")

    def targets(self, t: Array, params: Any, x: Array) -> Array:
        """Return the labels that go with ``apply(x, params)``: those given, unless a class says otherwise."""
        return t

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape (C, H, W) of a sample of shape `shape` afterwards, or refuse one that it cannot change.

        `Loader` asks as soon as it has the images, and each call does.
        """
        return shape

    def __call__(self, x: Array, t: Array, rng: np.random.Generator | int) -> tuple[Array, Array]:
        """Draw parameters and apply them.

        Parameters
        ----------
        x : array (N, C, H, W), float
            Of any backend and in any memory order; not changed.
        t : array of int64, shape (N,), or of float, shape (N, K)
            Labels, on the device of `x`; not changed.
        rng : numpy.random.Generator or int
            What the parameters are drawn from; a number is a seed, and draws the same every time.

        Returns
        -------
        x : array (N, C, OH, OW), the type of `x`
        t : array
            The labels themselves, or what `targets` makes of them.

        Raises
        ------
        ShapeError, DTypeError, ArrayMismatchError
            If `x` is no batch of float images, or `t` does not belong to it.
        """
        op = type(self).__name__
        check_images_of(self, x)
        check_place(op, "x", x, "t", t)
        if len(t.shape) not in (1, 2) or t.shape[0] != x.shape[0]:
            raise ShapeError(
                op,
                f"t has shape {tuple(t.shape)} but x holds {x.shape[0]} images; give labels ({x.shape[0]},), "
                f"or targets ({x.shape[0]}, K)",
            )
        N, C, H, W_ = x.shape
        self.output_shape((C, H, W_))
        params = self.draw(N, (C, H, W_), generator(rng))
        return self.apply(x, params), self.targets(t, params, x)


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Compose(Augmentation):
    """Augmentations one after the other.

    The parameters are a tuple of those of each.

    Parameters
    ----------
    *augmentations : Augmentation
        None at all leaves everything as it is.

    Raises
    ------
    DTypeError
        If one is no `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.augment import Compose, HorizontalFlip, RandomCrop
    >>> augment = Compose(RandomCrop(padding=2, size=6), HorizontalFlip())
    >>> augment
    Compose(RandomCrop(padding=2, size=(6, 6), mode='constant', fill=0.0), HorizontalFlip(p=0.5))
    >>> x, t = augment(np.ones((5, 3, 8, 8), np.float32), np.arange(5), np.random.default_rng(0))
    >>> x.shape, t
    ((5, 3, 6, 6), array([0, 1, 2, 3, 4]))
    """

    augmentations: tuple[Augmentation, ...]

    def __init__(self, *augmentations: Augmentation) -> None:
        for i, augmentation in enumerate(augmentations):
            if not isinstance(augmentation, Augmentation):
                raise DTypeError(
                    "Compose",
                    f"argument {i} is {augmentation!r}; expected an Augmentation such as HorizontalFlip(), each an "
                    "argument of its own, or a text for augment.parse",
                )
        object.__setattr__(self, "augmentations", augmentations)

    def draw(self, n: int, shape: Shape, rng: np.random.Generator) -> tuple[Any, ...]:
        params = []
        for augmentation in self.augmentations:
            params.append(augmentation.draw(n, shape, rng))
            shape = augmentation.output_shape(shape)
        return tuple(params)

    def apply(self, x: Array, params: tuple[Any, ...]) -> Array:
        for augmentation, own in zip(self.augmentations, params, strict=True):
            x = augmentation.apply(x, own)
        return x

    def targets(self, t: Array, params: tuple[Any, ...], x: Array) -> Array:
        for augmentation, own in zip(self.augmentations, params, strict=True):
            t = augmentation.targets(t, own, x)
        return t

    def output_shape(self, shape: Shape) -> Shape:
        for augmentation in self.augmentations:
            shape = augmentation.output_shape(shape)
        return shape

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.augmentations))})"


def check_images_of(augmentation: Augmentation, x: Array) -> Any:
    """Refuse anything but a batch of float images; return the namespace."""
    op = type(augmentation).__name__
    xp = check_arrays(op, x=x)
    check_images(op, x)
    return xp


def per_sample(augmentation: Augmentation, name: str, values: Any, x: Array, shape: tuple[int, ...] = ()) -> Array:
    """Move one parameter per sample, (N, ...), to the device of `x`; floats come in its type, at least float32."""
    xp = array_namespace(x)
    host = np.array(values)
    if host.shape != (x.shape[0], *shape):
        raise ShapeError(
            type(augmentation).__name__,
            f"{name} has shape {host.shape} but x holds {x.shape[0]} images; "
            f"expected {(x.shape[0], *shape)}, as draw({x.shape[0]}, ...) gives it",
        )
    dtype = wide_dtype(xp, x.dtype) if host.dtype.kind == "f" else None
    return xp.asarray(host, dtype=dtype, device=device_of(x))
