"""The settings of a run: from a TOML file, from flags, and back into a file beside the results."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any

from xpnet.backend import DTYPES
from xpnet.files import atomic_write
from xpnet.models.spec import check_spec
from xpnet.optional import require
from xpnet.text import near, no_such

__all__ = ["ON_DEVICE", "PIXELS", "SCHEDULES", "Settings"]

SCHEDULES = ("constant", "cosine", "one_cycle", "step", "plateau")
ON_DEVICE: dict[str, bool | str] = {"auto": "auto", "always": True, "never": False}
PIXELS = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}


def _field(default: Any, text: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text} | more)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a run; the same settings on the same backend give the same weights.

    Each is a key of the TOML file and a flag of ``xpnet train`` (with dashes). `help` of each field is in its
    metadata.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.

    Examples
    --------
    >>> from xpnet.run import Settings
    >>> Settings(model="lenet", epochs=2).epochs
    2
    >>> Settings.from_dict({"epocs": 2})
    Traceback (most recent call last):
        ...
    ValueError: settings: no setting 'epocs'; did you mean 'epochs'? There are model, data, ...
    """

    model: str = _field(
        "lenet",
        "a model's name, with options behind colons (lenet:activation=relu); or PACKAGE.MODULE:NAME, a layer of your "
        "own or a function that returns one, which is given the number of classes if it has a parameter classes",
        metavar="NAME",
    )
    data: str = _field(
        "auto:upscale=4",  # digits of 32 x 32, which LeNet takes, where there is no MNIST
        "a data set's name with options behind colons, an .npz file, or a folder of images; "
        "auto: MNIST where it is found, else digits",
    )
    limit: int | None = _field(None, "use the first so many training and test images only", above=0)
    pixels: str = _field("0..1", "range that pixels are brought to", choices=tuple(PIXELS))
    augment: str | None = _field(None, "changes to the training images, such as crop:4,flip", metavar="LIST")
    validation: float = _field(
        0.0, "fraction of the training images to hold out for choosing the best epoch", least=0.0, below=1.0
    )
    epochs: int = _field(10, "passes over the training images", above=0)
    batch_size: int = _field(64, "images in a step", above=0)
    micro_batch: int | None = _field(None, "go through each batch in pieces of so many images", above=0)
    batch_norm: str = _field(
        "rank", "with several processes: by the images of each rank, or of all", choices=("rank", "all")
    )
    optimizer: str = _field(
        "adam", "sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam, adamw, lion or lamb", metavar="NAME"
    )
    lr: float = _field(0.001, "learning rate", above=0.0)
    weight_decay: float = _field(0.0, "L2 coefficient (apart from the gradient for adamw, lamb, lion)", least=0.0)
    clip_norm: float | None = _field(None, "largest norm of the gradient", above=0.0)
    schedule: str = _field("constant", "of the learning rate over the run", choices=SCHEDULES)
    warmup: int = _field(0, "epochs in which the learning rate rises to its value", least=0)
    label_smoothing: float = _field(0.0, "mix the targets with the uniform distribution", least=0.0, below=1.0)
    class_weights: str | None = _field(None, "balanced: each class weighs as much as the others", choices=("balanced",))
    early_stopping: int | None = _field(None, "end after so many epochs without a better validation loss", least=0)
    top: int | None = _field(None, "measure too how often the class is among so many best", above=1)
    on_device: str = _field(
        "auto", "whether the images are kept on the GPU; auto: if they fit", choices=tuple(ON_DEVICE)
    )
    cuda_graph: str = _field(
        "never", "launch the gradient of a step as one CUDA graph; needs the backend cupy", choices=("never", "always")
    )
    weights: str | None = _field(
        None,
        "start from these weights, safetensors or the book's params.pkl, which the run notes with their checksum; by "
        "default drawn by the seed",
        metavar="FILE",
    )
    seed: int = _field(0, "of weights, order of images and augmentation", least=0)
    backend: str | None = _field(
        None, "auto, numpy, cupy[:device], torch[:device] or array_api_strict[:device]; by default XPNET_BACKEND"
    )
    dtype: str | None = _field(None, "float type; by default XPNET_DTYPE, else float32", choices=DTYPES)

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = kinds[field.name]
            optional = isinstance(kind, types.UnionType)
            if optional and value is None:
                continue
            wanted = next(k for k in typing.get_args(kind) if k is not types.NoneType) if optional else kind
            if wanted is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))  # 1 is fine for 1.0
            elif type(value) is not wanted:
                raise ValueError(f"settings: {field.name} must be {_name(wanted)}, got {value!r}")
            _check_range(field.name, getattr(self, field.name), field.metadata)
        check_spec(self.model)
        choosing = {"early_stopping": self.early_stopping is not None, "schedule plateau": self.schedule == "plateau"}
        for name, is_wanted in choosing.items():
            if is_wanted and not self.validation:
                raise ValueError(
                    f"settings: {name} needs validation, such as 0.1: the test images must not choose anything"
                )
        if self.warmup >= self.epochs:
            raise ValueError(f"settings: warmup ({self.warmup}) must be less than epochs ({self.epochs})")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Make settings of names and values; what is missing has its default.

        Raises
        ------
        ValueError
            If a name is unknown, or a value is of the wrong type or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"settings: {no_such('setting', name, known)}")
        return cls(**values)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the names and values of a TOML file, not checked yet.

        Raises
        ------
        ValueError
            If it is no TOML.
        OSError
            If it cannot be read.
        """
        with open(path, "rb") as file:
            try:
                return tomllib.load(file)
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}: no TOML file: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return names and values; None for what has no value."""
        return dataclasses.asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a TOML file that gives the same run again; TOML knows no None, so those are left out."""
        tomli_w = require("tomli_w", "saving settings")
        content = {name: value for name, value in self.to_dict().items() if value is not None}
        with atomic_write(path) as file:
            file.write(tomli_w.dumps(content).encode())


def _name(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text"}[kind]


def _check_range(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise ValueError(
            f"settings: {name} must be one of {', '.join(limits['choices'])}, "
            f"got {value!r}{near(value, limits['choices'])}"
        )
    for word, fits in (
        ("above", lambda limit: value > limit),
        ("least", lambda limit: value >= limit),
        ("below", lambda limit: value < limit),
    ):
        if word in limits and not fits(limits[word]):
            phrase = "at least" if word == "least" else word
            raise ValueError(f"settings: {name} must be {phrase} {limits[word]}, got {value!r}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError(f"settings: {name} must be finite, got {value!r}")
