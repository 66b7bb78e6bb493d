"""The transposed convolution layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from xpnet.backend import Array
from xpnet.functional import conv_transpose2d_backward, conv_transpose2d_forward
from xpnet.functional.checks import check_positive_int
from xpnet.init import Fans, Initializer
from xpnet.kernels.geometry import Padding, make_transposed_window, pair
from xpnet.layers.base import Shape
from xpnet.layers.conv import Convolution
from xpnet.layers.parameter import Parameter, ParameterSpec

__all__ = ["ConvTranspose2D"]


class ConvTranspose2D(Convolution):
    """Transposed convolution, which enlarges images, with bias and, if named, an activation.

    Parameters
    ----------
    filters : int
        Channels of the output; those of the input are learnt from the first input.
    kernel_size : int or (int, int)
    stride, padding, output_padding, dilation, groups
        As for `xpnet.functional.conv_transpose2d_forward`.
    activation : str, optional
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ...
    bias : bool, default True
        False leaves it out, as before a batch normalisation.
    init, bias_init : str or initialiser, default "he_normal" and "zeros"
        See `xpnet.init`. An output pixel sees 1 / (stride * stride) of the kernel, which fan_in counts.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        How input and output are indexed; the weights are (C, F/groups, KH, KW) in both.

    Attributes
    ----------
    W : Parameter (C, F / groups, KH, KW)
    b : Parameter (F,)
        Only with bias.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import ConvTranspose2D
    >>> ConvTranspose2D(3, 4, stride=2, padding="same")(np.ones((2, 8, 7, 7), np.float32)).shape
    (2, 3, 14, 14)
    """

    W: Parameter
    _DEFAULTS: ClassVar = {"stride": (1, 1), "padding": 0, "output_padding": (0, 0), "dilation": (1, 1), "groups": 1,
                           "activation": None, "bias": True, "data_format": "NCHW"}  # fmt: skip

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
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
        self.output_padding = pair(self.operation, "output_padding", output_padding, minimum=0)
        self.groups = check_positive_int(self.operation, "groups", groups)

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        C = self._divided_channels(input_shape)
        taps = math.prod(self.kernel_size)
        shape = (C, self.filters // self.groups, *self.kernel_size)
        seen = max(1, C // self.groups * taps // math.prod(self.stride))
        fans = Fans(seen, shape[1] * taps)
        return self._with_bias({"W": ParameterSpec(shape, self.init, fans)}, fans)

    def _output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return make_transposed_window(
            self.operation, size, self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation
        ).input

    def _convolve(self, x: Array, b: Array | None, activation: str | None) -> tuple[Array, Any]:
        return conv_transpose2d_forward(
            x, self.W.data, b, self.stride, self.padding, self.output_padding, self.dilation, self.groups
        )

    def _convolve_backward(
        self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool
    ) -> tuple[Array | None, Array | None]:
        dx, dW, db = conv_transpose2d_backward(dy, ctx, need_dx=need_dx)
        self.W.accumulate(dW)
        return dx, db

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        return math.prod(input_shape) * (self.filters // self.groups) * math.prod(self.kernel_size)
