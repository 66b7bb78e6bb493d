"""The dense layer, and the flattening of images for it."""

from __future__ import annotations

import math
from typing import Any

from xpnet import init as initializers
from xpnet.backend import Array
from xpnet.errors import ShapeError
from xpnet.functional import flatten_backward, flatten_forward, linear_backward, linear_forward
from xpnet.functional.checks import check_positive_int
from xpnet.init import Fans, Initializer
from xpnet.layers.activation import activation_pair, keeps_with_activation
from xpnet.layers.base import Layer, Shape
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps, Tensor, Trace

__all__ = ["Dense", "Flatten"]


class Dense(Layer):
    """y = x @ W + b, with an activation if named; the book's Affine.

    Parameters
    ----------
    units : int
        Features of the output; those of the input are learnt from the first input.
    activation : str, optional
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ...
    bias : bool, default True
    init, bias_init : str or initialiser, default "he_normal" and "zeros"
        See `xpnet.init`.

    Attributes
    ----------
    W : Parameter (I, O)
    b : Parameter (O,)
        Only with bias.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> Dense(10, activation="relu")(np.ones((2, 4), np.float32)).shape
    (2, 10)
    """

    W: Parameter
    b: Parameter

    def __init__(
        self,
        units: int,
        *,
        activation: str | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        bias_init: str | Initializer = "zeros",
    ) -> None:
        super().__init__()
        self.units = check_positive_int("Dense", "units", units)
        self.activation = activation
        self.bias = bias
        self.init, self.bias_init = initializers.by_name(init), initializers.by_name(bias_init)
        self._activation = activation_pair("Dense", activation)
        self._fused = "relu" if activation == "relu" else None  # done by `linear_forward`

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        if len(input_shape) != 1:
            raise ShapeError(
                "Dense",
                f"the input must be features (I,) without the batch, got shape {tuple(input_shape)}; "
                "put a Flatten before it",
            )
        fans = Fans(input_shape[0], self.units)
        specs = {"W": ParameterSpec((input_shape[0], self.units), self.init, fans)}
        if self.bias:
            specs["b"] = ParameterSpec((self.units,), self.bias_init, fans, decay=False)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (O,) for (I,)."""
        self._parameter_specs(input_shape)
        return (self.units,)

    def _ends_in_relu(self) -> bool:
        return type(self) is Dense and self._activation is None

    def _forward(self, x: Array, train: bool, activation: str | None = None) -> tuple[Array, Any]:
        y, ctx = linear_forward(
            x, self.W.data, self.b.data if self.bias else None, activation=activation or self._fused
        )
        activation_ctx = None
        if self._activation is not None and not self._fused:
            y, activation_ctx = (self._activation.of_new or self._activation.forward)(y)
        return y, (ctx, activation_ctx)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        linear_ctx, activation_ctx = ctx
        if self._activation is not None and not self._fused:
            dy = self._activation.backward(dy, activation_ctx)
        dx, dW, db = linear_backward(dy, linear_ctx, need_dx=need_dx)
        self.W.accumulate(dW)
        if self.bias:
            self.b.accumulate(db)
        return dx

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        return input_shape[0] * self.units

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return keeps_with_activation(self._activation, output_shape, itemsize)

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"units": self.units}
        if self.activation is not None:
            shown["activation"] = self.activation
        return shown if self.bias else shown | {"bias": False}


class Flatten(Layer):
    """Images (N, ...) as rows of features (N, I), for a `Dense` to follow.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Flatten
    >>> Flatten()(np.ones((2, 16, 4, 4), np.float32)).shape
    (2, 256)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (product of the sizes,)."""
        return (math.prod(input_shape),)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        return flatten_forward(x)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        return flatten_backward(dy, ctx) if need_dx else None

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        y = Tensor(x.number, self.output_shape(x.shape))  # the same memory
        trace.add(self, path, x, y)
        return y
