"""LeNet, as taught today and as published in 1998."""

from __future__ import annotations

from xpnet.init import Initializer
from xpnet.layers import Activation, Conv2D, Dense, Flatten, Layer, Pool2D, Sequential

__all__ = ["LeNet"]

VARIANTS = ("modern", "1998")


class LeNet(Sequential):
    """Two convolutions, two poolings, three dense layers.

    Parameters
    ----------
    classes : int, default 10
    variant : {"modern", "1998"}, default "modern"
        ``"modern"``: conv(6, 5x5), activation, 2x2 max pooling, conv(16, 5x5), activation, 2x2 max
        pooling, dense 120, 84 and `classes`: 44,426 parameters on 28x28 images.
        ``"1998"``: after LeNet-5, averages over 2x2 with the activation *after* sub-sampling, and
        28x28 images padded to 32x32. Unlike the original, sub-sampling has no trainable scale, every map
        of the second convolution sees all six, and the output is a softmax and not radial basis
        functions: 61,706 parameters on 28x28 images.
    activation : str, default "sigmoid"
        Of all hidden layers; ``"relu"`` and ``"tanh"`` learn faster.
    init : str or initialiser, default "glorot_normal"

    Raises
    ------
    ValueError
        If the variant is unknown.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, *Gradient-based learning applied to document recognition*,
    Proc. IEEE 86(11), 1998.

    Examples
    --------
    >>> from xpnet.models import LeNet
    >>> model = LeNet().build((1, 28, 28), rng=0)
    >>> sum(p.size for p in model.parameters())
    44426
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        variant: str = "modern",
        activation: str = "sigmoid",
        init: str | Initializer = "glorot_normal",
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"LeNet: variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant
        modern = variant == "modern"

        def stage(number: int, filters: int, padding: int) -> dict[str, Layer]:
            convolution = Conv2D(filters, 5, padding=padding, activation=activation if modern else None, init=init)
            pooling = Pool2D(2, mode="max" if modern else "average")
            layers: dict[str, Layer] = {f"conv{number}": convolution, f"pool{number}": pooling}
            return layers if modern else layers | {f"activation{number}": Activation(activation)}

        super().__init__(
            stage(1, 6, padding=0 if modern else 2)
            | stage(2, 16, padding=0)
            | {
                "flatten": Flatten(),
                "dense1": Dense(120, activation=activation, init=init),
                "dense2": Dense(84, activation=activation, init=init),
                "output": Dense(classes, init=init),
            }
        )
