"""The depthwise separable convolution layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from xpnet.backend import Array
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.functional.checks import check_positive_int
from xpnet.functional.conv import conv2d_backward_of_new
from xpnet.init import Fans, Initializer
from xpnet.kernels.geometry import Padding
from xpnet.layers.base import Shape
from xpnet.layers.conv import Convolution
from xpnet.layers.data_format import image_shape
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["SeparableConv2D"]


class SeparableConv2D(Convolution):
    """Each channel convolved on its own, then a 1x1 convolution across channels, with bias and activation.

    In place of the ``KH * KW * C * F`` weights of a convolution it has ``KH * KW * C + C * F`` (times the
    multiplier).

    Parameters
    ----------
    filters : int
        Channels of the output; those of the input are learnt from the first input.
    kernel_size : int or (int, int)
    stride, padding, dilation
        Of the depthwise part, as for `xpnet.functional.conv2d_forward`.
    multiplier : int, default 1
        Depthwise filters for each channel.
    activation : str, optional
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ...; after both parts, with nothing between them.
    bias : bool, default True
        False leaves it out, as before a batch normalisation.
    init, bias_init : str or initialiser, default "he_normal" and "zeros"
        See `xpnet.init`; `init` is that of both parts.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        How input and output are indexed.

    Attributes
    ----------
    depthwise_W : Parameter (C * multiplier, 1, KH, KW)
    pointwise_W : Parameter (F, C * multiplier, 1, 1)
    b : Parameter (F,)
        Only with bias.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Chollet, *Xception*, arXiv:1610.02357; Howard et al., *MobileNets*, arXiv:1704.04861.

    Examples
    --------
    >>> from xpnet.layers import SeparableConv2D
    >>> layer = SeparableConv2D(4, 2, bias=False).build((2, 8, 8))
    >>> sum(p.size for p in layer.parameters())  # 2*2*2 + 2*4, where Conv2D has 2*2*2*4 = 32
    16
    """

    depthwise_W: Parameter
    pointwise_W: Parameter
    _DEFAULTS: ClassVar = {"stride": (1, 1), "padding": 0, "dilation": (1, 1), "multiplier": 1, "activation": None,
                           "bias": True, "data_format": "NCHW"}  # fmt: skip
    _FUSED: ClassVar = ("relu",)

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        multiplier: int = 1,
        activation: str | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        bias_init: str | Initializer = "zeros",
        data_format: str = "NCHW",
    ) -> None:
        super().__init__(
            filters, kernel_size, stride=stride, padding=padding, dilation=dilation, activation=activation,
            bias=bias, init=init, bias_init=bias_init, data_format=data_format,
        )  # fmt: skip
        self.multiplier = check_positive_int(self.operation, "multiplier", multiplier)

    def _ends_in_relu(self) -> bool:
        return type(self) is SeparableConv2D and self._activation is None

    def _channels(self, input_shape: Shape) -> tuple[int, int]:
        """Return the channels of the input, and those between the two parts."""
        C = image_shape(self.operation, input_shape, self.data_format)[0]
        return C, C * self.multiplier

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        _, between = self._channels(input_shape)
        taps = math.prod(self.kernel_size)
        fans = Fans(between, self.filters)
        weights = {
            "depthwise_W": ParameterSpec(
                (between, 1, *self.kernel_size), self.init, Fans(taps, self.multiplier * taps)
            ),
            "pointwise_W": ParameterSpec((self.filters, between, 1, 1), self.init, fans),
        }
        return self._with_bias(weights, fans)

    def _convolve(self, x: Array, b: Array | None, activation: str | None) -> tuple[Array, Any]:
        groups = self.depthwise_W.shape[0] // self.multiplier
        h, depthwise = conv2d_forward(x, self.depthwise_W.data, None, self.stride, self.padding, self.dilation, groups)
        y, pointwise = conv2d_forward(h, self.pointwise_W.data, b, activation=activation)
        return y, (depthwise, pointwise)

    def _convolve_backward(
        self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool
    ) -> tuple[Array | None, Array | None]:
        depthwise, pointwise = ctx
        dh, dW, db = (conv2d_backward_of_new if overwrite else conv2d_backward)(dy, pointwise)
        self.pointwise_W.accumulate(dW)
        dx, dW, _ = conv2d_backward(dh, depthwise, need_dx=need_dx)
        self.depthwise_W.accumulate(dW)
        return dx, db

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        _, between = self._channels(input_shape)
        pixels = math.prod(output_shape) // self.filters
        return pixels * between * (math.prod(self.kernel_size) + self.filters)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        _, between = self._channels(input_shape)
        images = math.prod(output_shape) // self.filters * between * itemsize
        keeps = super()._keeps(input_shape, output_shape, itemsize)
        return keeps._replace(extra_bytes=keeps.extra_bytes + images)
