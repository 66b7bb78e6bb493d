"""AlexNet, which won ImageNet in 2012."""

from __future__ import annotations

from xpnet.layers import Conv2D, Dense, Dropout, Flatten, LocalResponseNorm, Pool2D, Sequential

__all__ = ["AlexNet"]


class AlexNet(Sequential):
    """Five convolutions with relu, local response normalisation and overlapping pooling; three dense layers.

    Written for 224x224 images (padded to 227, which is what the paper's sizes need). The paper's two
    halves on two GPUs are the two groups of the second, fourth and fifth convolution.

    Parameters
    ----------
    classes : int, default 1000
    dropout : float, default 0.5

    References
    ----------
    Krizhevsky, Sutskever and Hinton, *ImageNet classification with deep convolutional neural networks*
    (2012): "60 million parameters".

    Examples
    --------
    >>> from xpnet.models import AlexNet
    >>> AlexNet().summary((3, 224, 224)).parameters
    60965224
    """

    def __init__(self, classes: int = 1000, *, dropout: float = 0.5) -> None:
        def norm() -> LocalResponseNorm:
            return LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0)  # the paper's alpha is per channel

        super().__init__(
            {
                "conv1": Conv2D(96, 11, stride=4, padding=((2, 1), (2, 1)), activation="relu"),
                "norm1": norm(),
                "pool1": Pool2D(3, stride=2),
                "conv2": Conv2D(256, 5, padding=2, groups=2, activation="relu"),
                "norm2": norm(),
                "pool2": Pool2D(3, stride=2),
                "conv3": Conv2D(384, 3, padding=1, activation="relu"),
                "conv4": Conv2D(384, 3, padding=1, groups=2, activation="relu"),
                "conv5": Conv2D(256, 3, padding=1, groups=2, activation="relu"),
                "pool5": Pool2D(3, stride=2),
                "flatten": Flatten(),
                "dense6": Dense(4096, activation="relu"),
                "dropout6": Dropout(dropout),
                "dense7": Dense(4096, activation="relu"),
                "dropout7": Dropout(dropout),
                "output": Dense(classes),
            }
        )
