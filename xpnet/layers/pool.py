"""The pooling layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.functional import pool2d_backward, pool2d_forward
from xpnet.functional.pool import check_mode, check_windows
from xpnet.kernels.geometry import Padding, make_window, pair
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, shape_from_chw, to_nchw
from xpnet.layers.summary import Keeps

__all__ = ["Pool2D"]


class Pool2D(Layer):
    """Maximum, average or p-norm of each window of each channel.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the kernel size.
    padding, dilation, mode, count_include_pad, ceil_mode, p
        As for `xpnet.functional.pool2d_forward`.
    data_format : {"NCHW", "NHWC"}, default "NCHW"

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Pool2D
    >>> Pool2D(2)(np.ones((2, 6, 28, 28), np.float32)).shape
    (2, 6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        mode: str = "max",
        count_include_pad: bool = True,
        ceil_mode: bool = False,
        p: float = 2,
        data_format: str = "NCHW",
    ) -> None:
        super().__init__()
        check_mode("Pool2D", mode, p)
        self.kernel_size = pair("Pool2D", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("Pool2D", "stride", stride)
        self.padding = padding
        self.dilation = pair("Pool2D", "dilation", dilation)
        self.mode = mode
        self.count_include_pad = count_include_pad
        self.ceil_mode = ceil_mode
        self.p = p
        self.data_format = check_data_format("Pool2D", data_format)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, OH, OW) for (C, H, W), in the order of the data format."""
        C, H, W_ = image_shape("Pool2D", input_shape, self.data_format)
        window = make_window(
            "Pool2D", (H, W_), self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        check_windows(window, self.mode, self.count_include_pad)
        return shape_from_chw((C, *window.output), self.data_format)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        y, ctx = pool2d_forward(
            to_nchw(x, self.data_format),
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            mode=self.mode,
            count_include_pad=self.count_include_pad,
            ceil_mode=self.ceil_mode,
            p=self.p,
            train=train,
        )
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return from_nchw(pool2d_backward(to_nchw(dy, self.data_format), ctx), self.data_format)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=self.mode != "average", output=True)

    def _settings(self) -> dict[str, Any]:
        defaults = {"padding": 0, "dilation": (1, 1), "mode": "max", "count_include_pad": True, "ceil_mode": False,
                    "p": 2, "data_format": "NCHW"}  # fmt: skip
        shown: dict[str, Any] = {"kernel_size": self.kernel_size, "stride": self.stride}
        return shown | {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}
