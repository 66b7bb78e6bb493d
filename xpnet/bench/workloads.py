"""What is measured: six networks with their batches, one for its memory, and the operations they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, GlobalPool2D, Layer, Pool2D, ReLU, Sequential
from xpnet.models import VGG, DeepConvNet, LeNet, ResNet, SimpleConvNet

__all__ = ["LARGE", "OPERATIONS", "WORKLOADS", "Operation", "Workload"]

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


class Workload(NamedTuple):
    """A network, the shape of its images and the batch."""

    model: Callable[[], Sequential]
    input_shape: tuple[int, int, int]
    batch: int


class Operation(NamedTuple):
    """One layer, the shape of its input without the batch, and the batch."""

    layer: Callable[[], Layer]
    input_shape: tuple[int, ...]
    batch: int


def _small_vgg() -> Sequential:
    """Pairs of 3x3 convolutions with 64, 128 and 256 filters and batch normalisation; global pooling."""
    layers: list[Layer] = []
    for filters in (64, 128, 256):
        for _ in range(2):
            layers += [Conv2D(filters, 3, padding=1, bias=False), BatchNorm(), ReLU()]
        layers.append(Pool2D(2))
    return Sequential(*layers, GlobalPool2D(), Dense(10))


WORKLOADS: dict[str, Workload] = {
    "lenet-64": Workload(LeNet, MNIST, 64),
    "lenet-512": Workload(LeNet, MNIST, 512),
    "simple-convnet": Workload(SimpleConvNet, MNIST, 100),
    "deep-convnet": Workload(DeepConvNet, MNIST, 100),
    "resnet20": Workload(lambda: ResNet(20), CIFAR, 64),
    "small-vgg": Workload(_small_vgg, CIFAR, 32),
}

# measured for their memory alone
LARGE: dict[str, Workload] = {"vgg16": Workload(lambda: VGG(16), (3, 224, 224), 8)}


def _conv(filters: int, kernel_size: int, stride: int = 1) -> Callable[[], Layer]:
    return lambda: Conv2D(filters, kernel_size, stride=stride, padding=kernel_size // 2)


OPERATIONS: dict[str, Operation] = {
    "conv 5x5 1->6": Operation(lambda: Conv2D(6, 5), (1, 28, 28), 64),
    "conv 5x5 6->16": Operation(lambda: Conv2D(16, 5), (6, 12, 12), 64),
    "conv 5x5 1->30": Operation(lambda: Conv2D(30, 5), (1, 28, 28), 100),
    "conv 3x3 16->16": Operation(_conv(16, 3), (16, 32, 32), 64),
    "conv 3x3 32->32": Operation(_conv(32, 3), (32, 16, 16), 64),
    "conv 3x3 32->64 stride 2": Operation(_conv(64, 3, 2), (32, 16, 16), 64),
    "conv 1x1 64->64": Operation(_conv(64, 1), (64, 16, 16), 64),
    "conv 3x3 64->64": Operation(_conv(64, 3), (64, 32, 32), 32),
    "conv 3x3 128->128": Operation(_conv(128, 3), (128, 16, 16), 32),
    "conv 3x3 256->256": Operation(_conv(256, 3), (256, 8, 8), 32),
    "depthwise conv 3x3 128": Operation(lambda: Conv2D(128, 3, padding=1, groups=128), (128, 28, 28), 32),
    "depthwise conv 3x3 128 stride 2": Operation(
        lambda: Conv2D(128, 3, stride=2, padding=1, groups=128), (128, 28, 28), 32
    ),
    "max pooling 2x2": Operation(lambda: Pool2D(2), (64, 32, 32), 32),
    "average pooling 2x2": Operation(lambda: Pool2D(2, mode="average"), (64, 32, 32), 32),
    "batch norm": Operation(BatchNorm, (64, 32, 32), 32),
    "relu": Operation(ReLU, (64, 32, 32), 32),
    "flatten and dense": Operation(lambda: Sequential(Flatten(), Dense(100)), (30, 12, 12), 100),
}
