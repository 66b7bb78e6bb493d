"""DeepConvNet, the network of the book's chapter 8."""

from __future__ import annotations

from xpnet.layers import Conv2D, Dense, Dropout, Flatten, Layer, Pool2D, Sequential

__all__ = ["DeepConvNet"]


class DeepConvNet(Sequential):
    """Three blocks of two 3x3 convolutions and a pooling, then two dense layers with dropout.

    On 28x28 images: ``[conv16 conv16 pool] [conv32 conv32 pool] [conv64 conv64 pool]``, dense 50, dense
    `classes`; relu throughout, He initial values. The second convolution of the middle block pads
    by 2, as in the book.

    Parameters
    ----------
    classes : int, default 10
    hidden : int, default 50
    dropout : float, default 0.5
        Rate after both dense layers.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 8.1.

    Examples
    --------
    >>> from xpnet.models import DeepConvNet
    >>> DeepConvNet().summary((1, 28, 28)).parameters
    123552
    """

    def __init__(self, classes: int = 10, *, hidden: int = 50, dropout: float = 0.5) -> None:
        layers: dict[str, Layer] = {}
        for block, (filters, second_padding) in enumerate(((16, 1), (32, 2), (64, 1)), start=1):
            layers[f"conv{block}a"] = Conv2D(filters, 3, padding=1, activation="relu")
            layers[f"conv{block}b"] = Conv2D(filters, 3, padding=second_padding, activation="relu")
            layers[f"pool{block}"] = Pool2D(2)
        layers["flatten"] = Flatten()
        layers["hidden"] = Dense(hidden, activation="relu")
        layers["dropout1"] = Dropout(dropout)
        layers["output"] = Dense(classes)
        layers["dropout2"] = Dropout(dropout)
        super().__init__(layers)
