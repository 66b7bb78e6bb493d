"""The convolution layer, and what all layers that convolve have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from xpnet import init as initializers
from xpnet.backend import Array
from xpnet.errors import ShapeError
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.functional.checks import check_positive_int
from xpnet.functional.conv import check_algorithm, conv2d_backward_of_new
from xpnet.init import Fans, Initializer
from xpnet.kernels.geometry import Padding, make_window, pair
from xpnet.layers.activation import activation_pair, keeps_with_activation
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, shape_from_chw, to_nchw
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["Conv2D", "Convolution"]


class Convolution(Layer):
    """Base of the layers that convolve: their settings, data format, bias and activation.

    A subclass gives `_parameter_specs`, `_output_size` if it is another, `_convolve` and `_convolve_backward`
    on arrays indexed (N, C, H, W), and `_DEFAULTS`: the settings that `repr` shows where they differ.
    """

    b: Parameter
    groups = 1
    _DEFAULTS: ClassVar[dict[str, Any]] = {}
    _FUSED: ClassVar[tuple[str, ...]] = ()  # activations that `_convolve` does with its own work

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        activation: str | None,
        bias: bool,
        init: str | Initializer,
        bias_init: str | Initializer,
        data_format: str,
    ) -> None:
        super().__init__()
        self.filters = check_positive_int(self.operation, "filters", filters)
        self.kernel_size = pair(self.operation, "kernel_size", kernel_size)
        self.stride = pair(self.operation, "stride", stride)
        self.padding = padding
        self.dilation = pair(self.operation, "dilation", dilation)
        self.activation = activation
        self.bias = bias
        self.init, self.bias_init = initializers.by_name(init), initializers.by_name(bias_init)
        self.data_format = check_data_format(self.operation, data_format)
        self._activation = activation_pair(self.operation, activation)
        self._fused = activation if activation in self._FUSED else None

    def _divided_channels(self, input_shape: Shape) -> int:
        """Return the channels of the input; those, or filters, that do not go into groups are refused."""
        C = image_shape(self.operation, input_shape, self.data_format)[0]
        if C % self.groups or self.filters % self.groups:
            raise ShapeError(
                self.operation,
                f"groups={self.groups} must divide the {C} channels of the input and the {self.filters} filters",
            )
        return C

    def _with_bias(self, weights: dict[str, ParameterSpec], fans: Fans) -> dict[str, ParameterSpec]:
        if self.bias:
            weights["b"] = ParameterSpec((self.filters,), self.bias_init, fans, decay=False)
        return weights

    def _output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (OH, OW) for an image of size (H, W)."""
        return make_window(self.operation, size, self.kernel_size, self.stride, self.padding, self.dilation).output

    def _convolve(self, x: Array, b: Array | None, activation: str | None) -> tuple[Array, Any]:
        raise NotImplementedError(f"{self.operation} must define _convolve(x, b, activation) -> (y, ctx)")

    def _convolve_backward(
        self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool
    ) -> tuple[Array | None, Array | None]:
        """Add the gradients of the weights; return dx and db. With `overwrite`, the memory of dy may be used."""
        raise NotImplementedError(f"{self.operation} must define _convolve_backward(...) -> (dx, db)")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (F, OH, OW) for (C, H, W), in the order of the data format."""
        _, H, W_ = image_shape(self.operation, input_shape, self.data_format)
        self._parameter_specs(input_shape)
        return shape_from_chw((self.filters, *self._output_size((H, W_))), self.data_format)

    def _forward(self, x: Array, train: bool, activation: str | None = None) -> tuple[Array, Any]:
        b = self.b.data if self.bias else None
        y, ctx = self._convolve(to_nchw(x, self.data_format), b, activation or self._fused)
        activation_ctx = None
        if self._activation is not None and not self._fused:
            y, activation_ctx = (self._activation.of_new or self._activation.forward)(y)
        return from_nchw(y, self.data_format), (ctx, activation_ctx)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool = False) -> Array | None:
        conv_ctx, activation_ctx = ctx
        dy = to_nchw(dy, self.data_format)
        if self._activation is not None and not self._fused:
            dy = self._activation.back(dy, activation_ctx, overwrite)
        dx, db = self._convolve_backward(dy, conv_ctx, need_dx, overwrite)
        if self.bias:
            self.b.accumulate(db)
        return None if dx is None else from_nchw(dx, self.data_format)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return keeps_with_activation(self._activation, output_shape, itemsize)

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"filters": self.filters, "kernel_size": self.kernel_size}
        return shown | {k: getattr(self, k) for k, v in self._DEFAULTS.items() if getattr(self, k) != v}


class Conv2D(Convolution):
    """Convolution of images, with bias and, if named, an activation.

    Parameters
    ----------
    filters : int
        Channels of the output; those of the input are learnt from the first input.
    kernel_size : int or (int, int)
    stride, padding, dilation, groups, algorithm
        As for `xpnet.functional.conv2d_forward`.
    activation : str, optional
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ...
    bias : bool, default True
        False leaves it out, as before a batch normalisation.
    init, bias_init : str or initialiser, default "he_normal" and "zeros"
        See `xpnet.init`.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        How input and output are indexed; the weights are (F, C/groups, KH, KW) in both.

    Attributes
    ----------
    W : Parameter (F, C / groups, KH, KW)
    b : Parameter (F,)
        Only with bias.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Conv2D
    >>> Conv2D(6, 5, padding="same", activation="relu")(np.ones((2, 1, 28, 28), np.float32)).shape
    (2, 6, 28, 28)
    """

    W: Parameter
    _DEFAULTS: ClassVar = {"stride": (1, 1), "padding": 0, "dilation": (1, 1), "groups": 1, "activation": None,
                           "bias": True, "data_format": "NCHW", "algorithm": "auto"}  # fmt: skip
    _FUSED: ClassVar = ("relu",)

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        bias_init: str | Initializer = "zeros",
        data_format: str = "NCHW",
        algorithm: str = "auto",
    ) -> None:
        super().__init__(
            filters, kernel_size, stride=stride, padding=padding, dilation=dilation, activation=activation,
            bias=bias, init=init, bias_init=bias_init, data_format=data_format,
        )  # fmt: skip
        self.groups = check_positive_int(self.operation, "groups", groups)
        check_algorithm(self.operation, algorithm)
        self.algorithm = algorithm

    def _ends_in_relu(self) -> bool:
        return type(self) is Conv2D and self._activation is None

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        C = self._divided_channels(input_shape)
        taps = math.prod(self.kernel_size)
        shape = (self.filters, C // self.groups, *self.kernel_size)
        fans = Fans(shape[1] * taps, self.filters // self.groups * taps)  # groups do not see each other
        return self._with_bias({"W": ParameterSpec(shape, self.init, fans)}, fans)

    def _convolve(self, x: Array, b: Array | None, activation: str | None) -> tuple[Array, Any]:
        window = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d_forward(x, self.W.data, b, *window, algorithm=self.algorithm, activation=activation)

    def _convolve_backward(
        self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool
    ) -> tuple[Array | None, Array | None]:
        dx, dW, db = (conv2d_backward_of_new if overwrite else conv2d_backward)(dy, ctx, need_dx=need_dx)
        self.W.accumulate(dW)
        return dx, db

    def _has_rectified(self, y: Array) -> bool:
        """Tell whether the next backward begins with that of the relu that made this very array."""
        return bool(self._pending) and self._pending[-1][1][0].y is y

    def _leave_relu(self) -> None:
        """Leave the backward of that relu out, since it has been done."""
        begun, (ctx, activation_ctx) = self._pending[-1]
        self._pending[-1] = begun, (ctx._replace(y=None), activation_ctx)

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        C = image_shape(self.operation, input_shape, self.data_format)[0]
        return math.prod(output_shape) * (C // self.groups) * math.prod(self.kernel_size)
