"""MobileNet: depthwise separable convolutions, in version 2 with inverted residuals."""

from __future__ import annotations

import math

from xpnet.functional.checks import is_number
from xpnet.layers import Activation, BatchNorm, Conv2D, Dense, Dropout, GlobalPool2D, Layer, Residual, Sequential

__all__ = ["MobileNet", "MobileNetV2"]

# version 1: filters and stride of each separable convolution
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# version 2: expansion, filters, repetitions, stride of the first
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNet(Sequential):
    """A 3x3 convolution and thirteen depthwise separable ones, batch normalisation and relu after each half.

    Parameters
    ----------
    classes : int, default 1000
    width : float, default 1.0
        Multiplies the number of filters of every layer.

    Raises
    ------
    ValueError
        If width is not finite and above 0.

    References
    ----------
    Howard et al., *MobileNets*, arXiv:1704.04861: 4.2 million parameters at width 1.

    Examples
    --------
    >>> from xpnet.models import MobileNet
    >>> MobileNet().summary((3, 224, 224)).parameters
    4231976
    """

    def __init__(self, classes: int = 1000, *, width: float = 1.0) -> None:
        _check_width("MobileNet", width)
        channels = _scaled(32, width)
        layers: dict[str, Layer] = {"conv": _conv_norm(channels, 3, 2, activation="relu")}
        for i, (filters, stride) in enumerate(SEPARABLE, start=1):
            layers[f"depthwise{i}"] = _conv_norm(channels, 3, stride, groups=channels, activation="relu")
            channels = _scaled(filters, width)
            layers[f"pointwise{i}"] = _conv_norm(channels, 1, activation="relu")
        layers["pool"] = GlobalPool2D()
        layers["output"] = Dense(classes)
        super().__init__(layers)


class MobileNetV2(Sequential):
    """Inverted residuals: widen, convolve depthwise, narrow without an activation.

    Parameters
    ----------
    classes : int, default 1000
    width : float, default 1.0
        Multiplies the number of filters of every layer, rounded to multiples of 8.
    dropout : float, default 0.2

    Raises
    ------
    ValueError
        If width is not finite and above 0.

    References
    ----------
    Sandler et al., *MobileNetV2: inverted residuals and linear bottlenecks*, arXiv:1801.04381:
    3.4 million parameters at width 1.

    Examples
    --------
    >>> from xpnet.models import MobileNetV2
    >>> MobileNetV2().summary((3, 224, 224)).parameters
    3504872
    """

    def __init__(self, classes: int = 1000, *, width: float = 1.0, dropout: float = 0.2) -> None:
        _check_width("MobileNetV2", width)
        channels = _rounded(32 * width)
        layers: dict[str, Layer] = {"conv": _conv_norm(channels, 3, 2, activation="relu6")}
        for stage, (expansion, filters, count, first_stride) in enumerate(INVERTED, start=1):
            out = _rounded(filters * width)
            for i in range(1, count + 1):
                stride = first_stride if i == 1 else 1
                body = _inverted(channels, out, expansion, stride)
                same = stride == 1 and channels == out
                layers[f"block{stage}_{i}"] = Residual(body) if same else body
                channels = out
        layers["last"] = _conv_norm(_rounded(1280 * max(1.0, width)), 1, activation="relu6")
        layers["pool"] = GlobalPool2D()
        layers["dropout"] = Dropout(dropout)
        layers["output"] = Dense(classes)
        super().__init__(layers)


def _check_width(model: str, width: float) -> None:
    if not (is_number(width) and 0.0 < width < math.inf):
        raise ValueError(f"{model}: width must be finite and above 0, got {width!r}")


def _conv_norm(
    filters: int, kernel_size: int, stride: int = 1, *, groups: int = 1, activation: str | None = None
) -> Sequential:
    conv = Conv2D(filters, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False)
    layers: dict[str, Layer] = {"conv": conv, "norm": BatchNorm()}
    if activation:
        layers[activation] = Activation(activation)
    return Sequential(layers)


def _inverted(channels: int, out: int, expansion: int, stride: int) -> Sequential:
    wide = channels * expansion
    layers: dict[str, Layer] = {}
    if expansion != 1:
        layers["expand"] = _conv_norm(wide, 1, activation="relu6")
    layers["depthwise"] = _conv_norm(wide, 3, stride, groups=wide, activation="relu6")
    layers["project"] = _conv_norm(out, 1)
    return Sequential(layers)


def _scaled(filters: int, width: float) -> int:
    return max(1, int(filters * width))


def _rounded(filters: float) -> int:
    """Return the nearest multiple of 8, but not below 0.9 times the number."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest
