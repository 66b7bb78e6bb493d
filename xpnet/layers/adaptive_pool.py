"""Layers that pool images of any size to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.functional import (
    adaptive_pool2d_backward,
    adaptive_pool2d_forward,
    global_pool2d_backward,
    global_pool2d_forward,
)
from xpnet.functional.adaptive_pool import ADAPTIVE_MODES
from xpnet.functional.pool import check_mode
from xpnet.kernels.geometry import pair
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, shape_from_chw, to_nchw
from xpnet.layers.summary import Keeps

__all__ = ["AdaptivePool2D", "GlobalPool2D"]


class GlobalPool2D(Layer):
    """Average, maximum or p-norm of each channel: images (N, C, H, W) become rows (N, C), without a Flatten.

    Parameters
    ----------
    mode, p, keepdims
        As for `xpnet.functional.global_pool2d_forward`.
    data_format : {"NCHW", "NHWC"}, default "NCHW"

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import GlobalPool2D
    >>> GlobalPool2D()(np.ones((2, 64, 7, 7), np.float32)).shape
    (2, 64)
    """

    def __init__(
        self, *, mode: str = "average", p: float = 2, keepdims: bool = False, data_format: str = "NCHW"
    ) -> None:
        super().__init__()
        check_mode("GlobalPool2D", mode, p)
        self.mode, self.p, self.keepdims = mode, p, keepdims
        self.data_format = check_data_format("GlobalPool2D", data_format)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C,), or (C, 1, 1) in the order of the data format with keepdims."""
        C, _, _ = image_shape("GlobalPool2D", input_shape, self.data_format)
        return shape_from_chw((C, 1, 1), self.data_format) if self.keepdims else (C,)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        x = to_nchw(x, self.data_format)
        y, ctx = global_pool2d_forward(x, mode=self.mode, p=self.p, keepdims=self.keepdims)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return from_nchw(global_pool2d_backward(to_nchw(dy, self.data_format), ctx), self.data_format)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=self.mode != "average", output=True)

    def _settings(self) -> dict[str, Any]:
        defaults = {"p": 2, "keepdims": False, "data_format": "NCHW"}
        shown: dict[str, Any] = {"mode": self.mode}
        return shown | {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}


class AdaptivePool2D(Layer):
    """Average or maximum of bins of about equal size, as many as wanted, whatever the size of the images.

    Parameters
    ----------
    output_size : int or (int, int)
    mode : {"average", "max"}, default "average"
    data_format : {"NCHW", "NHWC"}, default "NCHW"

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import AdaptivePool2D
    >>> AdaptivePool2D((3, 2))(np.ones((2, 8, 13, 10), np.float32)).shape
    (2, 8, 3, 2)
    """

    def __init__(self, output_size: int | Sequence[int], *, mode: str = "average", data_format: str = "NCHW") -> None:
        super().__init__()
        check_mode("AdaptivePool2D", mode, modes=ADAPTIVE_MODES)
        self.output_size = pair("AdaptivePool2D", "output_size", output_size)
        self.mode = mode
        self.data_format = check_data_format("AdaptivePool2D", data_format)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, OH, OW) for (C, H, W), in the order of the data format."""
        C, _, _ = image_shape("AdaptivePool2D", input_shape, self.data_format)
        return shape_from_chw((C, *self.output_size), self.data_format)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        y, ctx = adaptive_pool2d_forward(to_nchw(x, self.data_format), self.output_size, mode=self.mode)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return from_nchw(adaptive_pool2d_backward(to_nchw(dy, self.data_format), ctx), self.data_format)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=self.mode != "average", output=True)

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"output_size": self.output_size, "mode": self.mode}
        return shown if self.data_format == "NCHW" else shown | {"data_format": self.data_format}
