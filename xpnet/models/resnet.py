"""ResNet: for small images 20, 32, 44, 56 and 110 layers deep, for large ones 18, 34, 50, 101 and 152."""

from __future__ import annotations

from xpnet.layers import (
    Affine,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalPool2D,
    Layer,
    Parallel,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
)

__all__ = ["ResNet"]

SMALL = (20, 32, 44, 56, 110)
LARGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
SHORTCUTS = ("A", "B")


class ResNet(Sequential):
    """Convolutions with batch normalisation in blocks, each around a shortcut.

    Depths 20, 32, 44, 56 and 110 are the paper's networks for CIFAR (3x3 first convolution; 16, 32, 64
    filters); 18, 34, 50, 101 and 152 those for ImageNet (7x7 first convolution, pooling; 64 to 512
    filters), from 50 on with bottlenecks, whose stride is at the 3x3 convolution, as everybody builds them now.

    Parameters
    ----------
    depth : int, default 20
    classes : int, optional
        By default 10 for the small and 1000 for the large ones.
    shortcut : {"A", "B"}, optional
        Where the shape changes: A takes every second pixel and pads with channels of zeros (no
        parameters), B is a 1x1 convolution. By default as in the paper: A for the small networks, B for the
        large ones.

    Raises
    ------
    ValueError
        If there is no such depth or shortcut.

    References
    ----------
    He, Zhang, Ren and Sun, *Deep residual learning for image recognition*, arXiv:1512.03385: 0.27, 0.46,
    0.66, 0.85 and 1.7 million parameters for the small networks.

    Examples
    --------
    >>> from xpnet.models import ResNet
    >>> ResNet(20).summary((3, 32, 32)).parameters
    269722
    >>> ResNet(50).summary((3, 224, 224)).parameters
    25557032
    """

    def __init__(self, depth: int = 20, classes: int | None = None, *, shortcut: str | None = None) -> None:
        if depth not in SMALL and depth not in LARGE:
            known = ", ".join(map(str, sorted((*SMALL, *LARGE))))
            raise ValueError(f"ResNet: depth must be one of {known}, got {depth!r}")
        if shortcut is not None and shortcut not in SHORTCUTS:
            raise ValueError(f"ResNet: shortcut must be one of {', '.join(SHORTCUTS)}, got {shortcut!r}")
        small = depth in SMALL
        counts = ((depth - 2) // 6,) * 3 if small else LARGE[depth]
        option = shortcut or ("A" if small else "B")
        layers: dict[str, Layer] = dict(_small_stem() if small else _large_stem())
        channels = width = 16 if small else 64
        for stage, count in enumerate(counts, start=1):
            for i in range(1, count + 1):
                stride = 2 if stage > 1 and i == 1 else 1
                body = _bottleneck(width, stride) if depth >= 50 and not small else _basic(width, stride)
                out = 4 * width if depth >= 50 and not small else width
                layers[f"block{stage}_{i}"] = Residual(body, _shortcut(channels, out, stride, option))
                layers[f"relu{stage}_{i}"] = ReLU()
                channels = out
            width *= 2
        layers["pool"] = GlobalPool2D()
        layers["output"] = Dense(classes if classes is not None else 10 if small else 1000)
        super().__init__(layers)


def _conv(filters: int, kernel_size: int, stride: int = 1) -> Conv2D:
    return Conv2D(filters, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


def _small_stem() -> dict[str, Layer]:
    return {"conv": _conv(16, 3), "norm": BatchNorm(), "relu": ReLU()}


def _large_stem() -> dict[str, Layer]:
    return {"conv": _conv(64, 7, 2), "norm": BatchNorm(), "relu": ReLU(), "maxpool": Pool2D(3, stride=2, padding=1)}


def _basic(width: int, stride: int) -> Sequential:
    return Sequential(_conv(width, 3, stride), BatchNorm(), ReLU(), _conv(width, 3), BatchNorm())


def _bottleneck(width: int, stride: int) -> Sequential:
    narrow = (_conv(width, 1), BatchNorm(), ReLU(), _conv(width, 3, stride), BatchNorm(), ReLU())
    return Sequential(*narrow, _conv(4 * width, 1), BatchNorm())


def _shortcut(channels: int, out: int, stride: int, option: str) -> Layer | None:
    if channels == out and stride == 1:
        return None
    if option == "B":
        return Sequential(_conv(out, 1, stride), BatchNorm())
    copies: list[Layer] = [Pool2D(1, stride=stride)]
    for _ in range(out // channels - 1):  # as many channels again, of zeros
        copies.append(Sequential(Pool2D(1, stride=stride), Affine(slope=0.0, intercept=0.0)))
    return Parallel(*copies)
