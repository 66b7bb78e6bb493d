"""The data of a run: loaded, cut, split, scaled and augmented as its settings say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import data
from xpnet.data import Dataset, Loader, augment
from xpnet.data.datasets import resolve
from xpnet.errors import DataError
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.run.settings import ON_DEVICE, PIXELS, Settings
from xpnet.text import parse_spec

if TYPE_CHECKING:
    from xpnet.run.saved import SavedRun

__all__ = ["evaluation_data", "held_out", "load_dataset", "make_loss", "pixel_scale", "resolved", "training_loader"]


def load_dataset(settings: Settings) -> Dataset:
    """Load the data set that the settings name, and cut and split it.

    ``data`` is the name of a data set with options behind colons (``digits:upscale=4``), the path of an ``.npz``
    file, or that of a folder of images.

    Raises
    ------
    ValueError
        If there is no such data set, or it has no such option.
    DataError, MissingDependencyError
        If it cannot be loaded or split.
    """
    found = _load(settings.data)
    if settings.limit is not None:
        found = found.limit(settings.limit, settings.limit)
    return found.split(settings.validation, seed=settings.seed) if settings.validation else found


def resolved(text: str) -> str:
    """Return what ``data`` of the settings stands for: "auto" is a data set that is found now, others are themselves.

    A run notes this, since another one may be found when it is opened.
    """
    name, values, options = parse_spec(text)
    if values or _own_files(text) is not None:
        return text
    found, left = resolve(name, options)
    return text if found == name else ":".join([found, *(f"{key}={value}" for key, value in left.items())])


def _own_files(text: str) -> Callable[..., Dataset] | None:
    path = Path(text)
    if path.suffix == ".npz":
        return data.npz
    return data.image_folder if text and path.is_dir() else None


def _load(text: str) -> Dataset:
    read = _own_files(text)
    if read is not None:
        return read(Path(text))
    if text and Path(text).is_file():
        raise DataError(f"{text}: expected an .npz file, a folder of images or the name of a data set")
    name, values, options = parse_spec(text)
    if os.sep in name:
        raise DataError(f"{text}: there is no such folder or file; check the path")
    if values:
        raise ValueError(f"data {text!r}: give options by name, such as digits:upscale=4")
    paths = {key: str(value) for key, value in options.items() if key in ("path", "root")}  # a folder may be called 5
    try:
        return data.load(name, **options | paths)
    except TypeError as error:
        raise ValueError(f"data {text!r}: {error}") from None


def evaluation_data(saved: SavedRun, name: str | None = None, limit: int | None = None) -> Dataset:
    """Return the data set of a run for its test images, or another one that fits its model.

    Raises
    ------
    ValueError, DataError, MissingDependencyError
        As `load_dataset` does; if images or classes are others than those of the model; and if the pixels of another
        range than the model learnt from are not in the range that they should have.
    """
    found = load_dataset(Settings(data=name or saved.settings.data, limit=limit, seed=saved.settings.seed))
    if found.input_shape != saved.input_shape or len(found.classes) != len(saved.classes):
        raise DataError(
            f"{found.name}: images {found.input_shape} of {len(found.classes)} classes, but the model of {saved.path} "
            f"takes {saved.input_shape} and tells {len(saved.classes)} classes apart"
        )
    if found.classes != saved.classes and _are_names(found.classes) and _are_names(saved.classes):
        raise DataError(
            f"{found.name}: the classes are {_shortened(found.classes)}, but the model of {saved.path} tells "
            f"{_shortened(saved.classes)} apart; give data of the same classes in the same order"
        )
    if found.max_value != saved.max_value:  # else they are as they were for the training, whatever they are
        low, high = float(found.test.x.min()), float(found.test.x.max())
        if not 0 <= low <= high <= found.max_value:
            raise DataError(
                f"{found.name}: expected pixels from 0 to {found.max_value:g}, got {low:g} to {high:g}, which cannot "
                f"be brought to what the model of {saved.path} learnt from; scale them to 0..1, or save them as uint8"
            )
    return found


def _are_names(classes: tuple[str, ...]) -> bool:
    """Tell whether classes are called something, and not by their numbers as where nobody has named them."""
    return classes != tuple(map(str, range(len(classes))))


def _shortened(classes: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(classes[:most]) + (f", ... ({len(classes)})" if len(classes) > most else "")


def pixel_scale(pixels: str, max_value: float) -> tuple[float, float]:
    """Return (a, b) such that x * a + b brings 0..max_value to the range that `pixels` names."""
    low, high = PIXELS[pixels]
    return (high - low) / max_value, low


def training_loader(settings: Settings, dataset: Dataset) -> Loader:
    """Return the batches of the training images."""
    change = None
    if settings.augment is not None:
        change = augment.parse(settings.augment, classes=len(dataset.classes))
        if any(isinstance(part, augment.Normalize) for part in change.augmentations):
            raise ValueError("settings: normalize would leave the test images as they are; pixels sets their range")
    return Loader(
        *dataset.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        scale=pixel_scale(settings.pixels, dataset.max_value),
        augment=change,
        on_device=ON_DEVICE[settings.on_device],
    )


def held_out(x: Any, t: Any, scale: tuple[float, float], *, batch_size: int = 256, on_device: str = "never") -> Loader:
    """Return batches in order, as they are, for measuring."""
    return Loader(x, t, batch_size=batch_size, shuffle=False, scale=scale, on_device=ON_DEVICE[on_device])


def make_loss(settings: Settings, dataset: Dataset) -> SoftmaxCrossEntropy:
    """Return the loss, with weights in inverse proportion to the classes' numbers if they are to be balanced."""
    weights = None
    if settings.class_weights == "balanced":
        counts = np.bincount(dataset.train.t, minlength=len(dataset.classes))
        weights = [float(len(dataset.train.t) / (len(counts) * n)) if n else 0.0 for n in counts]
    return SoftmaxCrossEntropy(label_smoothing=settings.label_smoothing, class_weights=weights)
