"""The rectifier that learns its slope."""

from __future__ import annotations

from typing import Any

from xpnet import init as initializers
from xpnet.backend import Array
from xpnet.functional import prelu_backward, prelu_forward
from xpnet.init import Fans
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, to_nchw
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["PReLU"]


class PReLU(Layer):
    """x where x > 0, else slope * x, with slopes that are learnt.

    Parameters
    ----------
    slope : float, default 0.25
        What every slope starts from.
    shared : bool, default False
        One slope for all instead of one per channel or feature.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        For images; features are (N, C) in both.

    Attributes
    ----------
    slope : Parameter (C,), or (1,) if shared
        No weight decay: it would pull the slopes to 0, and the layer to a relu.

    Raises
    ------
    ArgumentError
        If the data format is unknown.

    References
    ----------
    He et al., arXiv:1502.01852.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import PReLU
    >>> PReLU()(np.array([[-1.0, 2.0]]))
    array([[-0.25,  2.  ]])
    """

    slope: Parameter

    def __init__(self, slope: float = 0.25, *, shared: bool = False, data_format: str = "NCHW") -> None:
        super().__init__()
        self.initial_slope = float(slope)
        self.shared = shared
        self.data_format = check_data_format("PReLU", data_format)

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        C = image_shape("PReLU", input_shape, self.data_format)[0] if len(input_shape) == 3 else input_shape[0]
        shape = (1,) if self.shared else (C,)
        return {"slope": ParameterSpec(shape, initializers.constant(self.initial_slope), Fans(1, 1), decay=False)}

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        y, ctx = prelu_forward(to_nchw(x, self.data_format), self.slope.data)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        dx, dslope = prelu_backward(to_nchw(dy, self.data_format), ctx)
        self.slope.accumulate(dslope)
        return from_nchw(dx, self.data_format) if need_dx else None

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=True)

    def _settings(self) -> dict[str, Any]:
        shown = {"slope": self.initial_slope, "shared": self.shared, "data_format": self.data_format}
        defaults = {"slope": 0.25, "shared": False, "data_format": "NCHW"}
        return {k: v for k, v in shown.items() if v != defaults[k]}
