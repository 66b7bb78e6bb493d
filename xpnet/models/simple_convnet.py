"""SimpleConvNet, the network of the book's chapter 7."""

from __future__ import annotations

from xpnet.init import normal
from xpnet.layers import Conv2D, Dense, Flatten, Pool2D, Sequential

__all__ = ["SimpleConvNet"]


class SimpleConvNet(Sequential):
    """conv(30, 5x5) - relu - 2x2 max pooling - dense 100 - relu - dense 10.

    Parameters
    ----------
    classes : int, default 10
    filters : int, default 30
    kernel_size : int, default 5
    hidden : int, default 100
    weight_std : float, default 0.01
        Standard deviation of the initial weights (the book's ``weight_init_std``).
    conv_activation : str or None, default "relu"
        None is the variant without the relu after the convolution.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.5.

    Examples
    --------
    >>> from xpnet.models import SimpleConvNet
    >>> model = SimpleConvNet().build((1, 28, 28), rng=0)
    >>> [p.name for p in model.parameters()]
    ['conv.W', 'conv.b', 'hidden.W', 'hidden.b', 'output.W', 'output.b']
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        filters: int = 30,
        kernel_size: int = 5,
        hidden: int = 100,
        weight_std: float = 0.01,
        conv_activation: str | None = "relu",
    ) -> None:
        init = normal(weight_std)
        super().__init__(
            {
                "conv": Conv2D(filters, kernel_size, activation=conv_activation, init=init),
                "pool": Pool2D(2),
                "flatten": Flatten(),
                "hidden": Dense(hidden, activation="relu", init=init),
                "output": Dense(classes, init=init),
            }
        )
