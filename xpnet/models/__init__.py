"""Models from the literature, each a `Sequential`, and all of them by name."""

from __future__ import annotations

from collections.abc import Callable

from xpnet.layers import Sequential
from xpnet.models.alexnet import AlexNet
from xpnet.models.deep_convnet import DeepConvNet
from xpnet.models.googlenet import GoogLeNet
from xpnet.models.lenet import LeNet
from xpnet.models.mobilenet import MobileNet, MobileNetV2
from xpnet.models.resnet import LARGE, SMALL, ResNet
from xpnet.models.simple_convnet import SimpleConvNet
from xpnet.models.squeezenet import SqueezeNet
from xpnet.models.vgg import STACKS, VGG

__all__ = [
    "VGG",
    "AlexNet",
    "DeepConvNet",
    "GoogLeNet",
    "LeNet",
    "MobileNet",
    "MobileNetV2",
    "ResNet",
    "SimpleConvNet",
    "SqueezeNet",
    "by_name",
    "names",
]

_MODELS: dict[str, Callable[[int], Sequential]] = {
    "alexnet": lambda classes: AlexNet(classes),
    "deep_convnet": lambda classes: DeepConvNet(classes),
    "googlenet": lambda classes: GoogLeNet(classes),
    "lenet": lambda classes: LeNet(classes),
    "lenet_1998": lambda classes: LeNet(classes, variant="1998"),
    "mobilenet": lambda classes: MobileNet(classes),
    "mobilenet_v2": lambda classes: MobileNetV2(classes),
    **{f"resnet{depth}": lambda classes, depth=depth: ResNet(depth, classes) for depth in (*SMALL, *LARGE)},  # type: ignore[misc]
    "simple_convnet": lambda classes: SimpleConvNet(classes),
    "squeezenet": lambda classes: SqueezeNet(classes),
    **{f"vgg{depth}": lambda classes, depth=depth: VGG(depth, classes) for depth in STACKS},  # type: ignore[misc]
    **{
        f"vgg{depth}_bn": lambda classes, depth=depth: VGG(depth, classes, batch_norm=True)  # type: ignore[misc]
        for depth in STACKS
    },
}


def names() -> list[str]:
    """Return the names that `by_name` knows, sorted."""
    return sorted(_MODELS)


def by_name(name: str, classes: int = 10) -> Sequential:
    """Return a new model, not built, by its name.

    Parameters
    ----------
    name : str
        One of `names`, such as ``"resnet20"`` or ``"vgg16_bn"``.
    classes : int, default 10

    Raises
    ------
    ValueError
        If there is no such model.

    Examples
    --------
    >>> from xpnet import models
    >>> models.by_name("lenet").output_shape((1, 28, 28))
    (10,)
    """
    if name not in _MODELS:
        raise ValueError(f"models: no model {name!r}; there are {', '.join(names())}")
    return _MODELS[name](classes)
