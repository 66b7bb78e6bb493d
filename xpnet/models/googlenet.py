"""GoogLeNet, which won ImageNet in 2014: inception modules."""

from __future__ import annotations

from xpnet.layers import (
    Conv2D,
    Dense,
    Dropout,
    GlobalPool2D,
    Layer,
    LocalResponseNorm,
    Parallel,
    Pool2D,
    Sequential,
)

__all__ = ["GoogLeNet"]

# filters of a module: 1x1; 3x3 after its 1x1; 5x5 after its 1x1; 1x1 after pooling (table 1 of the paper)
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOL_BEFORE = ("4a", "5a")


class GoogLeNet(Sequential):
    """Nine inception modules: 1x1, 3x3 and 5x5 convolutions and a pooling side by side.

    The two auxiliary classifiers of the paper, which were for training only, are left out.

    Parameters
    ----------
    classes : int, default 1000
    dropout : float, default 0.4

    References
    ----------
    Szegedy et al., *Going deeper with convolutions*, arXiv:1409.4842.

    Examples
    --------
    >>> from xpnet.models import GoogLeNet
    >>> GoogLeNet().summary((3, 224, 224)).parameters
    6998552
    """

    def __init__(self, classes: int = 1000, *, dropout: float = 0.4) -> None:
        layers: dict[str, Layer] = {
            "conv1": Conv2D(64, 7, stride=2, padding=3, activation="relu"),
            "pool1": Pool2D(3, stride=2, ceil_mode=True),
            "norm1": LocalResponseNorm(),
            "reduce2": Conv2D(64, 1, activation="relu"),
            "conv2": Conv2D(192, 3, padding=1, activation="relu"),
            "norm2": LocalResponseNorm(),
            "pool2": Pool2D(3, stride=2, ceil_mode=True),
        }
        for name, filters in MODULES.items():
            if name in POOL_BEFORE:
                layers[f"pool{int(name[0]) - 1}"] = Pool2D(3, stride=2, ceil_mode=True)
            layers[f"inception{name}"] = _inception(*filters)
        layers["pool5"] = GlobalPool2D()
        layers["dropout"] = Dropout(dropout)
        layers["output"] = Dense(classes)
        super().__init__(layers)


def _inception(one: int, reduce3: int, three: int, reduce5: int, five: int, after_pool: int) -> Parallel:
    def conv(filters: int, kernel_size: int) -> Conv2D:
        return Conv2D(filters, kernel_size, padding=kernel_size // 2, activation="relu")

    return Parallel(
        {
            "1x1": conv(one, 1),
            "3x3": Sequential({"reduce": conv(reduce3, 1), "conv": conv(three, 3)}),
            "5x5": Sequential({"reduce": conv(reduce5, 1), "conv": conv(five, 5)}),
            "pool": Sequential({"pool": Pool2D(3, stride=1, padding=1), "project": conv(after_pool, 1)}),
        }
    )
