"""The convolution layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpnet import init as initializers
from xpnet.backend import Array
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.init import Fans, Initializer
from xpnet.kernels.geometry import Padding, make_window, pair
from xpnet.layers.activation import activation_pair, keeps_with_activation
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, shape_from_chw, to_nchw
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["Conv2D"]


class Conv2D(Layer):
    """Convolution of images, with bias and, if named, an activation.

    Parameters
    ----------
    filters : int
        Channels of the output; those of the input are learnt from the first input.
    kernel_size : int or (int, int)
    stride, padding, dilation, groups
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
    b: Parameter

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
    ) -> None:
        super().__init__()
        if not hasattr(filters, "__index__") or filters < 1:
            raise ArgumentError("Conv2D", f"filters must be a positive int, got {filters!r}")
        self.filters = int(filters)
        self.kernel_size = pair("Conv2D", "kernel_size", kernel_size)
        self.stride = pair("Conv2D", "stride", stride)
        self.padding = padding
        self.dilation = pair("Conv2D", "dilation", dilation)
        if not hasattr(groups, "__index__") or isinstance(groups, bool) or groups < 1:
            raise ArgumentError("Conv2D", f"groups must be a positive int, got {groups!r}")
        self.groups = int(groups)
        self.activation = activation
        self.bias = bias
        self.init, self.bias_init = initializers.by_name(init), initializers.by_name(bias_init)
        self.data_format = check_data_format("Conv2D", data_format)
        self._activation = activation_pair("Conv2D", activation)

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        C = image_shape("Conv2D", input_shape, self.data_format)[0]
        if C % self.groups or self.filters % self.groups:
            raise ShapeError(
                "Conv2D",
                f"groups={self.groups} must divide the {C} channels of the input and the {self.filters} filters",
            )
        taps = math.prod(self.kernel_size)
        shape = (self.filters, C // self.groups, *self.kernel_size)
        fans = Fans(shape[1] * taps, self.filters // self.groups * taps)  # groups do not see each other
        specs = {"W": ParameterSpec(shape, self.init, fans)}
        if self.bias:
            specs["b"] = ParameterSpec((self.filters,), self.bias_init, fans, decay=False)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (F, OH, OW) for (C, H, W), in the order of the data format."""
        _, H, W_ = image_shape("Conv2D", input_shape, self.data_format)
        self._parameter_specs(input_shape)
        window = make_window("Conv2D", (H, W_), self.kernel_size, self.stride, self.padding, self.dilation)
        return shape_from_chw((self.filters, *window.output), self.data_format)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        b = self.b.data if self.bias else None
        y, ctx = conv2d_forward(
            to_nchw(x, self.data_format),
            self.W.data,
            b,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )
        activation_ctx = None
        if self._activation is not None:
            y, activation_ctx = self._activation[0](y)
        return from_nchw(y, self.data_format), (ctx, activation_ctx)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        conv_ctx, activation_ctx = ctx
        dy = to_nchw(dy, self.data_format)
        if self._activation is not None:
            dy = self._activation[1](dy, activation_ctx)
        dx, dW, db = conv2d_backward(dy, conv_ctx, need_dx=need_dx)
        self.W.accumulate(dW)
        if self.bias:
            self.b.accumulate(db)
        return None if dx is None else from_nchw(dx, self.data_format)

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        C = image_shape("Conv2D", input_shape, self.data_format)[0]
        return math.prod(output_shape) * (C // self.groups) * math.prod(self.kernel_size)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return keeps_with_activation(self._activation, output_shape, itemsize)

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"filters": self.filters, "kernel_size": self.kernel_size}
        defaults = {"stride": (1, 1), "padding": 0, "dilation": (1, 1), "groups": 1, "activation": None,
                    "bias": True, "data_format": "NCHW"}  # fmt: skip
        return shown | {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}
