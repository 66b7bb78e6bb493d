"""How much of the image a unit sees: the receptive field of each layer."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.errors import ArgumentError
from xpnet.kernels.geometry import Window, make_transposed_window, make_window
from xpnet.layers import AdaptivePool2D, ConvTranspose2D, GlobalPool2D, Layer
from xpnet.layers.data_format import image_shape
from xpnet.viz._recording import image_format, is_branching, is_chain, joined

__all__ = ["PIXEL", "ReceptiveField", "receptive_fields"]

Pair = tuple[float, float]


class ReceptiveField(NamedTuple):
    """What the units of a layer see of the image; pairs are (rows, columns), in pixels.

    Unit (i, j) sees ``size`` pixels around ``start + (i, j) * jump``; a field may reach beyond the image.
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    size: Pair
    jump: Pair  # from one unit's field to the next one's
    start: Pair  # centre of the field of unit (0, 0); the first pixel's centre is 0

    def extent(self, i: int, j: int) -> tuple[float, float, float, float]:
        """Return (top, bottom, left, right) of the field of unit (i, j): its edges, where pixel 0 is -0.5 to 0.5."""
        rows, columns = (s + n * q for s, n, q in zip(self.start, (i, j), self.jump, strict=True))
        h, w = self.size
        return rows - h / 2, rows + h / 2, columns - w / 2, columns + w / 2


class _Field(NamedTuple):
    """Size, jump and start along both axes."""

    size: Pair
    jump: Pair
    start: Pair


PIXEL = _Field((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))


def receptive_fields(model: Layer, input_shape: tuple[int, ...] | None = None) -> list[ReceptiveField]:
    r"""Return the receptive field of every layer whose output are images.

    With kernel k, stride s, dilation d and padding p before the image, a layer turns (size r, jump j, start c) into

    .. math:: r' = r + d (k - 1) j, \qquad j' = s j, \qquad c' = c + \left( \frac{d (k - 1)}{2} - p \right) j

    Where branches merge, the field is the smallest that covers all of theirs. Layers that work pixel by pixel change
    nothing (the statistics of a normalisation over a sample, which see the whole image, are not counted). Where the
    bins of an adaptive pooling differ, the field is that of the largest, and the jump their mean distance.
    From the first layer that gives features (`Flatten`, say) each unit sees the whole image, and the list ends.

    Parameters
    ----------
    model : Layer
        Built or not; not changed.
    input_shape : tuple of int, optional
        (C, H, W) in the model's data format; by default the one it was built for.

    Returns
    -------
    list of ReceptiveField
        In the order in which the layers run.

    Raises
    ------
    ArgumentError
        If there is no input shape, or a layer that changes the size of images tells nothing of its window.
    ShapeError
        If the layers do not fit the input.

    References
    ----------
    Araujo, Norris and Sim, *Computing receptive fields of convolutional neural networks*, Distill (2019).

    Examples
    --------
    >>> from xpnet.models import VGG
    >>> from xpnet.viz import receptive_fields
    >>> fields = receptive_fields(VGG(16), (3, 224, 224))
    >>> fields[-1].path, fields[-1].size, fields[-1].jump
    ('pool5', (212.0, 212.0), (32.0, 32.0))
    """
    shape = model.input_shape if input_shape is None else tuple(input_shape)
    if shape is None:
        raise ArgumentError("receptive_fields", "the model is not built: give input_shape, without the batch")
    image_shape("receptive_fields", shape, image_format(model))
    model.output_shape(shape)  # an error of the chain names the layer
    found: list[ReceptiveField] = []
    _walk(model, "", shape, PIXEL, found, image_format(model))
    return found


def _walk(
    layer: Layer, path: str, shape: tuple[int, ...], field: _Field, found: list[ReceptiveField], form: str
) -> _Field:
    """Add the fields of a layer and all below it; return the one of its output."""
    y_shape = layer.output_shape(shape)
    if len(shape) != 3:
        return field
    if is_chain(layer):
        for name, child in layer.children().items():
            field = _walk(child, joined(path, name), shape, field, found, form)
            shape = child.output_shape(shape)
    elif is_branching(layer):
        ends = [_walk(c, joined(path, n), shape, field, found, form) for n, c in layer.children().items()]
        field = _union(path, ends)
    elif len(y_shape) == 3:
        size, y_size = ((s[:2] if form == "NHWC" else s[1:]) for s in (shape, y_shape))
        field = _through(layer, path, size, y_size, field)
    if len(y_shape) == 3 and (path or not layer.children()):
        kind = type(layer).__name__
        found.append(ReceptiveField(path or kind, kind, tuple(y_shape), *field))
    return field


def _through(layer: Layer, path: str, size: tuple[int, ...], y_size: tuple[int, ...], field: _Field) -> _Field:
    if isinstance(layer, GlobalPool2D | AdaptivePool2D):
        return _Field(*zip(*(_bins(n, o, *f) for n, o, f in zip(size, y_size, _axes(field), strict=True)), strict=True))
    if hasattr(layer, "kernel_size"):
        settings = (layer.kernel_size, layer.stride, layer.padding)  # type: ignore[attr-defined]
        dilation = layer.dilation  # type: ignore[attr-defined]
        if isinstance(layer, ConvTranspose2D):
            window = make_transposed_window(path, size, *settings, layer.output_padding, dilation)
        else:
            window = make_window(path, size, *settings, dilation, getattr(layer, "ceil_mode", False))
        step = _enlarged if isinstance(layer, ConvTranspose2D) else _slid
        return _Field(*zip(*(step(window, axis, *f) for axis, f in enumerate(_axes(field))), strict=True))
    if size != y_size:
        raise ArgumentError(
            "receptive_fields",
            f"layer {path!r}, a {type(layer).__name__}, turns images of {size} into {y_size} and has no kernel_size, "
            "stride, padding and dilation to tell how",
        )
    return field


def _axes(field: _Field) -> list[tuple[float, float, float]]:
    return list(zip(*field, strict=True))


def _slid(window: Window, axis: int, r: float, j: float, c: float) -> tuple[float, float, float]:
    reach = window.dilation[axis] * (window.kernel[axis] - 1)
    return r + reach * j, window.stride[axis] * j, c + (reach / 2 - window.padding[axis][0]) * j


def _enlarged(window: Window, axis: int, r: float, j: float, c: float) -> tuple[float, float, float]:
    """The other way round: output o is made of the inputs from (o + p - reach) / s to (o + p) / s."""
    reach = window.dilation[axis] * (window.kernel[axis] - 1)
    s, p = window.stride[axis], window.padding[axis][0]
    return r + reach // s * j, j / s, c + (p - reach / 2) / s * j


def _bins(n: int, o: int, r: float, j: float, c: float) -> tuple[float, float, float]:
    """Bins of about equal size: the largest, their mean distance, and the centre of the first."""
    widest = max(-(-(i + 1) * n // o) - i * n // o for i in range(o))
    first = -(-n // o)
    return r + (widest - 1) * j, n / o * j, c + (first - 1) / 2 * j


def _union(path: str, fields: list[_Field]) -> _Field:
    """Return the smallest field that covers all branches; their units must be equally far apart."""
    if any(f.jump != fields[0].jump for f in fields):
        jumps = ", ".join(str(f.jump) for f in fields)
        raise ArgumentError(
            "receptive_fields", f"the branches of {path or 'the model'} do not line up: their jumps are {jumps}"
        )
    sizes, starts = [], []
    for axis in (0, 1):
        low = min(f.start[axis] - f.size[axis] / 2 for f in fields)
        high = max(f.start[axis] + f.size[axis] / 2 for f in fields)
        sizes.append(high - low)
        starts.append((low + high) / 2)
    return _Field((sizes[0], sizes[1]), fields[0].jump, (starts[0], starts[1]))
