"""The models from the literature by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from xpnet.layers import Sequential
from xpnet.models.alexnet import AlexNet
from xpnet.models.deep_convnet import DeepConvNet
from xpnet.models.googlenet import GoogLeNet
from xpnet.models.lenet import LeNet
from xpnet.models.mobilenet import MobileNet, MobileNetV2
from xpnet.models.resnet import LARGE, SMALL, ResNet
from xpnet.models.simple_convnet import SimpleConvNet
from xpnet.models.squeezenet import SqueezeNet
from xpnet.models.tiny_convnet import TinyConvNet
from xpnet.models.vgg import STACKS, VGG
from xpnet.text import no_such

__all__ = ["by_name", "names", "unknown"]

_MODELS: dict[str, Callable[..., Sequential]] = {
    "alexnet": AlexNet,
    "deep_convnet": DeepConvNet,
    "googlenet": GoogLeNet,
    "lenet": LeNet,
    "lenet_1998": partial(LeNet, variant="1998"),
    "mobilenet": MobileNet,
    "mobilenet_v2": MobileNetV2,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (*SMALL, *LARGE)},
    "simple_convnet": SimpleConvNet,
    "squeezenet": SqueezeNet,
    "tiny_convnet": TinyConvNet,
    **{f"vgg{depth}": partial(VGG, depth) for depth in STACKS},
    **{f"vgg{depth}_bn": partial(VGG, depth, batch_norm=True) for depth in STACKS},
}


def names() -> list[str]:
    """Return the names that `by_name` knows, sorted."""
    return sorted(_MODELS)


def unknown(name: str) -> ValueError:
    """Return the error about a name that there is not."""
    return ValueError(f"models: {no_such('model', name, names())}")


def by_name(name: str, classes: int = 10, **options: Any) -> Sequential:
    """Return a new model, not built, by its name.

    Parameters
    ----------
    name : str
        One of `names`, such as ``"resnet20"`` or ``"vgg16_bn"``.
    classes : int, default 10
    **options
        Further arguments of the model's class, such as ``variant="1998"`` for LeNet.

    Raises
    ------
    ValueError
        If there is no such model, or the model has no such option.

    Examples
    --------
    >>> from xpnet import models
    >>> models.by_name("lenet", activation="relu").output_shape((1, 28, 28))
    (10,)
    """
    if name not in _MODELS:
        raise unknown(name)
    maker = _MODELS[name]
    known = [option for option in inspect.signature(maker).parameters if option != "classes"]
    for option in options:
        if option not in known:
            raise ValueError(f"models: {no_such('option', option, known, of=name)}")
        if isinstance(inspect.signature(maker).parameters[option].default, str):
            options[option] = str(options[option])  # a command line gives "1998" and "1.1" as numbers
    return maker(classes=classes, **options)
