"""Augmentations from a line of text, as a command line gives it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from xpnet.data.augment.affine import RandomAffine, Rotation, Scaling
from xpnet.data.augment.base import Augmentation, Compose
from xpnet.data.augment.mixing import Cutout, MixUp
from xpnet.data.augment.normalize import Normalize
from xpnet.data.augment.shifts import HorizontalFlip, RandomCrop, RandomShift, VerticalFlip
from xpnet.data.augment.values import Brightness, Contrast
from xpnet.errors import ArgumentError
from xpnet.text import no_such, parse_spec

__all__ = ["names", "parse"]


def _affine(
    degrees: float = 0.0, low: float = 1.0, high: float = 1.0, shift: float = 0.0, fill: float = 0.0
) -> RandomAffine:
    return RandomAffine(degrees, (low, high), shift, fill)


def _scale(low: float = 0.8, high: float = 1.2, fill: float = 0.0) -> Scaling:
    return Scaling((low, high), fill)


_MAKERS: dict[str, Callable[..., Augmentation]] = {
    "affine": _affine,
    "brightness": Brightness,
    "contrast": Contrast,
    "crop": RandomCrop,
    "cutout": Cutout,
    "flip": HorizontalFlip,
    "mixup": MixUp,
    "normalize": Normalize,
    "rotate": Rotation,
    "scale": _scale,
    "shift": RandomShift,
    "vertical_flip": VerticalFlip,
}


def names() -> list[str]:
    """Return the names that `parse` knows, sorted.

    Examples
    --------
    >>> from xpnet.data import augment
    >>> "crop" in augment.names()
    True
    """
    return sorted(_MAKERS)


def parse(text: str, *, classes: int | None = None) -> Compose:
    """Return the augmentations that a text names, in its order.

    Parameters
    ----------
    text : str
        Names with commas between them, each with its settings behind colons, in their order or by name:
        ``"crop:4,flip"``, ``"crop:4:mode=reflect"``, ``"scale:0.8:1.2"``. Whole numbers are ints, others
        floats: ``"shift:2"`` is two pixels, ``"shift:0.1"`` a tenth of the image.
    classes : int, optional
        Number of classes, for ``"mixup"``.

    Returns
    -------
    Compose

    Raises
    ------
    ArgumentError
        If a name or a setting is unknown, there twice, or has a value that cannot be used.

    Examples
    --------
    >>> from xpnet.data import augment
    >>> augment.parse("crop:4,flip,cutout:8")
    Compose(RandomCrop(padding=4, size=None, mode='constant', fill=0.0), HorizontalFlip(p=0.5),
            Cutout(size=(8, 8), fill=0.0))
    """
    if not isinstance(text, str):
        raise ArgumentError("augment.parse", f'expected a text such as "crop:4,flip", got {text!r}')
    return Compose(*(_one(item.strip(), classes) for item in text.split(",")))


def _one(item: str, classes: int | None) -> Augmentation:
    try:
        name, given, named = parse_spec(item)
    except ValueError as error:
        raise ArgumentError("augment.parse", str(error)) from None
    if name not in _MAKERS:
        raise ArgumentError("augment.parse", no_such("augmentation", name, names()))
    maker = _MAKERS[name]
    takes = inspect.signature(maker)
    if name == "mixup" and "classes" not in named:
        if classes is None:
            raise ArgumentError("augment.parse", 'mixup needs the number of classes: "mixup:0.2:classes=10"')
        named["classes"] = classes
    try:
        takes.bind(*given, **named)
    except TypeError as error:
        raise ArgumentError("augment.parse", f"{item!r}: {error}; {name} takes {', '.join(takes.parameters)}") from None
    return maker(*given, **named)
