"""Models from the literature, each a `Sequential`."""

from xpnet.models.lenet import LeNet
from xpnet.models.simple_convnet import SimpleConvNet

__all__ = ["LeNet", "SimpleConvNet"]
