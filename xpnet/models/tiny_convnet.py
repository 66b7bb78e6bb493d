"""The smallest convolutional network, for 8x8 digits."""

from __future__ import annotations

from xpnet.layers import Conv2D, Dense, Flatten, Pool2D, Sequential

__all__ = ["TinyConvNet"]


class TinyConvNet(Sequential):
    """conv(8, 3x3, padding 1) - relu - 2x2 max pooling - dense 10, with He's initial values.

    Parameters
    ----------
    classes : int, default 10
    filters : int, default 8

    Examples
    --------
    >>> from xpnet.models import TinyConvNet
    >>> sum(p.size for p in TinyConvNet().build((1, 8, 8)).parameters())
    1370
    """

    def __init__(self, classes: int = 10, *, filters: int = 8) -> None:
        super().__init__(
            {
                "conv": Conv2D(filters, 3, padding=1, activation="relu"),
                "pool": Pool2D(2),
                "flatten": Flatten(),
                "output": Dense(classes),
            }
        )
