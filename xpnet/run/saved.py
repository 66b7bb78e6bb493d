"""A run that has left its results in a folder, opened again: model, settings, and what its data were."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet import backend, models
from xpnet.backend import Array
from xpnet.errors import WeightsError
from xpnet.io import load_weights
from xpnet.layers import Layer
from xpnet.run.settings import Settings
from xpnet.training.checkpoint import read_about

__all__ = ["SavedRun", "build_model", "checkpoint_of", "described", "open_run", "open_settings"]


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """What `open_run` found.

    Attributes
    ----------
    path : pathlib.Path
        Of the checkpoint.
    model : Layer
        With the checkpoint's weights, on the selected backend.
    settings : Settings
    classes : tuple of str
    input_shape : tuple of int
        (C, H, W).
    scale : (float, float)
        What pixels are multiplied with and what is added then.
    max_value : float
        Of the pixels before that.
    epochs : int
        Whole epochs that the weights have seen.
    """

    path: Path
    model: Layer
    settings: Settings
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    scale: tuple[float, float]
    max_value: float
    epochs: int

    def prepared(self, pixels: npt.NDArray[Any]) -> Array:
        """Return pixels (N, C, H, W) from 0 to `max_value` as the model takes them, on its backend."""
        a, b = self.scale
        like = self.model.parameters()[0].data
        return backend.asarray_like(pixels.astype(np.float32) * np.float32(a) + np.float32(b), like)


def build_model(
    settings: Settings, classes: int, input_shape: tuple[int, ...], *, outside: os.PathLike[str] | None = None
) -> Layer:
    """Return the model that the settings name, built for such images and drawn by their seed.

    Parameters
    ----------
    settings : Settings
    classes : int
    input_shape : tuple of int
        (C, H, W).
    outside : path, optional
        The folder that the settings come from: a model of one's own is not imported from there.

    Raises
    ------
    ValueError
        If it is a model of one's own that cannot be made, is built already, or tells another number of classes apart.
    OperationError
        If it cannot take such images.
    """
    model = models.from_spec(settings.model, classes, outside=outside)
    if model.built:
        raise ValueError(
            f"model {settings.model}: it is built already; a run builds it itself, for its images and with weights "
            "drawn by its seed, so return it as it was before build"
        )
    output = model.output_shape(input_shape)
    if output != (classes,):
        raise ValueError(
            f"model {settings.model}: its output is {output}, expected ({classes},), a number for each class of the "
            "data; a function with a parameter classes is given their number"
        )
    return model.build(input_shape, rng=settings.seed)


def checkpoint_of(path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint that a path means: itself, or of a run's folder the best, else the last one.

    Raises
    ------
    WeightsError
        If there is none.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(
            f"{path}: there is no such folder or file; give the folder that `xpnet train` left, or a checkpoint in it"
        )
    if not path.is_dir():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).exists():
            return path / name
    raise WeightsError(f"{path}: no checkpoint of a run here (best.safetensors, last.safetensors)")


def open_run(path: str | os.PathLike[str]) -> SavedRun:
    """Open the folder of a run, or one of its checkpoints, for inference.

    If the model is one of your own, its module is imported, as ``import`` would: from an installed package or a folder
    of Python's path, never from the folder of the run.

    Parameters
    ----------
    path : str or path
        A checkpoint, or a folder: its best epoch is taken, or the last where no best one was kept.

    Raises
    ------
    WeightsError
        If there is no checkpoint, or it was not written by a run of settings.
    ValueError
        If the model is one of your own and cannot be imported or made.
    MissingDependencyError
        If safetensors is not installed.
    """
    file = checkpoint_of(path)
    content = read_about(file)
    about = content.get("about")
    try:
        settings, found = described(about)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file}: this checkpoint does not say how to build its model again ({error}); "
            "it was not written by `xpnet train`"
        ) from None
    model = build_model(settings, len(found["classes"]), found["input_shape"], outside=file.parent)
    load_weights(model, file)
    return SavedRun(path=file, model=model, settings=settings, epochs=len(content["history"]["epochs"]), **found)


def open_settings(folder: str | os.PathLike[str]) -> Settings:
    """Return the settings of the run in a folder.

    Raises
    ------
    WeightsError
        If there is no run in the folder.
    ValueError
        If the settings cannot be understood.
    """
    path = Path(folder, "settings.toml")
    if not path.exists():
        raise WeightsError(f"{folder}: no run of `xpnet train` here (settings.toml); give the folder it left")
    return Settings.from_dict(Settings.read(path))


def described(about: Any) -> tuple[Settings, dict[str, Any]]:
    """Return the settings and the facts about the data that `xpnet.run.train` noted, checked."""
    settings = Settings.from_dict(about["settings"])
    classes = tuple(str(name) for name in about["classes"])
    channels, height, width = (int(n) for n in about["input_shape"])
    a, b = (float(n) for n in about["scale"])
    if not (0 < len(classes) < 2**20 and 0 < channels < 2**20 and 0 < height < 2**16 and 0 < width < 2**16):
        raise ValueError(f"input shape {about['input_shape']} and {len(classes)} classes")
    return settings, {
        "classes": classes,
        "input_shape": (channels, height, width),
        "scale": (a, b),
        "max_value": float(about["max_value"]),
    }
