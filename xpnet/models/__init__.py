"""Models from the literature, each a `Sequential`, all of them by name, and one of your own by where it is."""

from __future__ import annotations

from xpnet.models.alexnet import AlexNet
from xpnet.models.deep_convnet import DeepConvNet
from xpnet.models.googlenet import GoogLeNet
from xpnet.models.lenet import LeNet
from xpnet.models.mobilenet import MobileNet, MobileNetV2
from xpnet.models.named import by_name, names
from xpnet.models.resnet import ResNet
from xpnet.models.simple_convnet import SimpleConvNet
from xpnet.models.spec import from_spec
from xpnet.models.squeezenet import SqueezeNet
from xpnet.models.tiny_convnet import TinyConvNet
from xpnet.models.vgg import VGG

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
    "TinyConvNet",
    "by_name",
    "from_spec",
    "names",
]
