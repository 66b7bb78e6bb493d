"""The dropout layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional import dropout_backward, dropout_forward
from xpnet.functional.checks import is_number
from xpnet.layers.base import Layer, Shape
from xpnet.layers.parameter import Maker
from xpnet.layers.summary import Keeps

__all__ = ["Dropout"]


class Dropout(Layer):
    """Inverted dropout: in training each element is zero with probability `rate`, the others scaled up.

    The masks follow from the seed drawn when the model is built and from the number of training
    forwards so far, so they are the same on every backend and in every run of the same seed.

    Parameters
    ----------
    rate : float, 0 <= rate < 1, default 0.5

    Attributes
    ----------
    seed, step : int
        What the next mask depends on; set them to repeat a mask.

    Raises
    ------
    ArgumentError
        If rate is out of range.

    References
    ----------
    Srivastava et al., *Dropout* (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dropout
    >>> Dropout(0.5)(np.ones((1, 4)))  # inference
    array([[1., 1., 1., 1.]])
    """

    random_names: ClassVar[tuple[str, ...]] = ("seed", "step")

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        if not is_number(rate) or not 0.0 <= rate < 1.0:
            raise ArgumentError("Dropout", f"rate must be at least 0 and below 1, got {rate!r}")
        self.rate = float(rate)
        self.seed = 0
        self.step = 0

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        if not self.built:
            self.seed = maker.seed()
        super()._build_tree(input_shape, maker)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        result = dropout_forward(x, rate=self.rate, seed=self.seed, step=self.step, train=train)
        self.step += train
        return result

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        return dropout_backward(dy, ctx) if need_dx else None

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(extra_bytes=math.prod(input_shape) if self.rate else 0)

    def _settings(self) -> dict[str, Any]:
        return {"rate": self.rate}
