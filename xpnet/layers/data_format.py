"""NCHW and NHWC: how images are indexed at the border of a layer. Inside, everything is NCHW."""

from __future__ import annotations

from xpnet.backend import Array, array_namespace
from xpnet.errors import ArgumentError, ShapeError

__all__ = ["check_data_format", "from_nchw", "image_shape", "shape_from_chw", "to_nchw"]

FORMATS = ("NCHW", "NHWC")


def check_data_format(operation: str, data_format: str) -> str:
    """Return the format, or refuse one that is unknown."""
    if data_format not in FORMATS:
        raise ArgumentError(operation, f"data_format must be one of {', '.join(FORMATS)}, got {data_format!r}")
    return data_format


def to_nchw(x: Array, data_format: str) -> Array:
    """Return images of a format indexed (N, C, H, W): a view; what is none is left to the operation to refuse."""
    if data_format == "NCHW" or len(getattr(x, "shape", ())) != 4:
        return x
    return array_namespace(x).permute_dims(x, (0, 3, 1, 2))


def from_nchw(x: Array, data_format: str) -> Array:
    """Return images (N, C, H, W) indexed as the format says: a view."""
    if data_format == "NCHW" or len(x.shape) != 4:
        return x
    return array_namespace(x).permute_dims(x, (0, 2, 3, 1))


def image_shape(operation: str, input_shape: tuple[int, ...], data_format: str) -> tuple[int, int, int]:
    """Return (C, H, W) of an input shape without the batch, or refuse one that is no image's."""
    if len(input_shape) != 3:
        axes = ", ".join(data_format[1:])
        raise ShapeError(
            operation, f"the input must be images ({axes}) without the batch, got shape {tuple(input_shape)}"
        )
    a, b, c = input_shape
    return (a, b, c) if data_format == "NCHW" else (c, a, b)


def shape_from_chw(shape: tuple[int, int, int], data_format: str) -> tuple[int, ...]:
    """Return (C, H, W) in the order of the format."""
    C, H, W_ = shape
    return (C, H, W_) if data_format == "NCHW" else (H, W_, C)
