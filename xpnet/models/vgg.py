"""VGG: 3x3 convolutions in stacks."""

from __future__ import annotations

from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Pool2D, ReLU, Sequential

__all__ = ["VGG"]

# convolutions in each of the five stacks
STACKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)


class VGG(Sequential):
    """Five stacks of 3x3 convolutions with relu, each ended by 2x2 max pooling; three dense layers.

    Parameters
    ----------
    depth : {11, 13, 16, 19}, default 16
        Configurations A, B, D and E of the paper.
    classes : int, default 1000
    batch_norm : bool, default False
        Batch normalisation between convolution and relu (not in the paper, which is older).
    dropout : float, default 0.5

    Raises
    ------
    ValueError
        If there is no such depth.

    References
    ----------
    Simonyan and Zisserman, *Very deep convolutional networks for large-scale image recognition*,
    arXiv:1409.1556: 133, 133, 138 and 144 million parameters.

    Examples
    --------
    >>> from xpnet.models import VGG
    >>> VGG(16).summary((3, 224, 224)).parameters
    138357544
    """

    def __init__(self, depth: int = 16, classes: int = 1000, *, batch_norm: bool = False, dropout: float = 0.5) -> None:
        if depth not in STACKS:
            raise ValueError(f"VGG: depth must be one of {', '.join(map(str, STACKS))}, got {depth!r}")
        layers: dict[str, Layer] = {}
        for stack, (count, filters) in enumerate(zip(STACKS[depth], FILTERS, strict=True), start=1):
            for i in range(1, count + 1):
                layers[f"conv{stack}_{i}"] = Conv2D(filters, 3, padding=1, activation=None if batch_norm else "relu")
                if batch_norm:
                    layers[f"norm{stack}_{i}"] = BatchNorm()
                    layers[f"relu{stack}_{i}"] = ReLU()
            layers[f"pool{stack}"] = Pool2D(2)
        layers["flatten"] = Flatten()
        for i in (6, 7):
            layers[f"dense{i}"] = Dense(4096, activation="relu")
            layers[f"dropout{i}"] = Dropout(dropout)
        layers["output"] = Dense(classes)
        super().__init__(layers)
