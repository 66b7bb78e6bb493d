"""Layers on the way from features back to images: upsampling, and another shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.functional import reshape_backward, reshape_forward, upsample2d_backward, upsample2d_forward
from xpnet.functional.checks import check_positive_int
from xpnet.functional.reshape import check_reshape
from xpnet.functional.upsample import check_upsample_mode
from xpnet.kernels.geometry import pair
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, shape_from_chw, to_nchw
from xpnet.layers.summary import Tensor, Trace

__all__ = ["Reshape", "Upsample2D"]


class Upsample2D(Layer):
    """Images enlarged by a whole factor, by repeating pixels or by linear interpolation.

    Parameters
    ----------
    scale, mode
        As for `xpnet.functional.upsample2d_forward`.
    data_format : {"NCHW", "NHWC"}, default "NCHW"

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Odena, Dumoulin and Olah, *Deconvolution and checkerboard artifacts*, Distill (2016): upsampling and a convolution
    in place of a transposed convolution.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Upsample2D
    >>> Upsample2D(2, mode="bilinear")(np.ones((2, 8, 7, 5), np.float32)).shape
    (2, 8, 14, 10)
    """

    def __init__(self, scale: int | Sequence[int] = 2, *, mode: str = "nearest", data_format: str = "NCHW") -> None:
        super().__init__()
        check_upsample_mode("Upsample2D", mode)
        self.scale = pair("Upsample2D", "scale", scale)
        self.mode = mode
        self.data_format = check_data_format("Upsample2D", data_format)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, scale * H, scale * W), in the order of the data format."""
        C, H, W_ = image_shape("Upsample2D", input_shape, self.data_format)
        return shape_from_chw((C, H * self.scale[0], W_ * self.scale[1]), self.data_format)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        y, ctx = upsample2d_forward(to_nchw(x, self.data_format), self.scale, mode=self.mode)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return from_nchw(upsample2d_backward(to_nchw(dy, self.data_format), ctx), self.data_format)

    def _settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"scale": self.scale, "mode": self.mode}
        return shown if self.data_format == "NCHW" else shown | {"data_format": self.data_format}


class Reshape(Layer):
    """Samples in another shape: after a `Dense`, features as images for the convolutions of a decoder.

    Parameters
    ----------
    shape : sequence of int
        Of one sample, without the batch.

    Raises
    ------
    ArgumentError
        If a size is no positive int.
    ShapeError
        If a sample has another number of elements.

    Examples
    --------
    >>> from xpnet.layers import Conv2D, Dense, Flatten, Reshape, Sequential, Upsample2D
    >>> autoencoder = Sequential(
    ...     Flatten(),
    ...     Dense(8, activation="relu"),
    ...     Dense(4 * 4 * 16, activation="relu"),
    ...     Reshape((16, 4, 4)),
    ...     Upsample2D(2),
    ...     Conv2D(1, 3, padding="same"),
    ... )
    >>> autoencoder.build((1, 8, 8), rng=0).output_shape((1, 8, 8))
    (1, 8, 8)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(check_positive_int("Reshape", "each size of shape", size) for size in shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape that was given."""
        return check_reshape("Reshape", tuple(input_shape), self.shape)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        return reshape_forward(x, self.shape)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        return reshape_backward(dy, ctx) if need_dx else None

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        y = Tensor(x.number, self.output_shape(x.shape))  # the same memory
        trace.add(self, path, x, y)
        return y

    def _settings(self) -> dict[str, Any]:
        return {"shape": self.shape}
