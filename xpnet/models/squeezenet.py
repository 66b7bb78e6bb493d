"""SqueezeNet: AlexNet's accuracy with 50 times fewer parameters."""

from __future__ import annotations

from xpnet.layers import Conv2D, Dropout, GlobalPool2D, Layer, Parallel, Pool2D, Sequential

__all__ = ["SqueezeNet"]

# squeeze and expand filters of fire modules 2 to 9
FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
POOL_AFTER = {"1.0": (4, 8), "1.1": (3, 5)}


class SqueezeNet(Sequential):
    """Fire modules: a 1x1 convolution squeezes the channels, 1x1 and 3x3 convolutions side by side expand them.

    The classifier is a 1x1 convolution and a global average, without a dense layer.

    Parameters
    ----------
    classes : int, default 1000
    version : {"1.0", "1.1"}, default "1.0"
        1.1 pools earlier: 2.4 times less computation.
    dropout : float, default 0.5

    Raises
    ------
    ValueError
        If there is no such version.

    References
    ----------
    Iandola et al., *SqueezeNet*, arXiv:1602.07360: 1.25 million parameters.

    Examples
    --------
    >>> from xpnet.models import SqueezeNet
    >>> SqueezeNet().summary((3, 224, 224)).parameters
    1248424
    """

    def __init__(self, classes: int = 1000, *, version: str = "1.0", dropout: float = 0.5) -> None:
        if version not in POOL_AFTER:
            raise ValueError(f"SqueezeNet: version must be one of {', '.join(POOL_AFTER)}, got {version!r}")
        filters, kernel_size = (96, 7) if version == "1.0" else (64, 3)
        layers: dict[str, Layer] = {
            "conv1": Conv2D(filters, kernel_size, stride=2, activation="relu"),
            "pool1": Pool2D(3, stride=2, ceil_mode=True),
        }
        for i, (squeeze, expand) in FIRES.items():
            layers[f"fire{i}"] = _fire(squeeze, expand)
            if i in POOL_AFTER[version]:
                layers[f"pool{i}"] = Pool2D(3, stride=2, ceil_mode=True)
        layers["dropout"] = Dropout(dropout)
        layers["conv10"] = Conv2D(classes, 1, activation="relu")
        layers["output"] = GlobalPool2D()
        super().__init__(layers)


def _fire(squeeze: int, expand: int) -> Sequential:
    sides = {
        "1x1": Conv2D(expand, 1, activation="relu"),
        "3x3": Conv2D(expand, 3, padding=1, activation="relu"),
    }
    return Sequential({"squeeze": Conv2D(squeeze, 1, activation="relu"), "expand": Parallel(sides)})
