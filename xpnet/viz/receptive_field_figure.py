"""Receptive fields drawn on the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array, to_numpy
from xpnet.errors import ArgumentError
from xpnet.layers import Layer
from xpnet.layers.data_format import image_shape, to_nchw
from xpnet.text import listed
from xpnet.viz._drawing import axes_for, picture, show
from xpnet.viz._recording import find_layer, image_format
from xpnet.viz.receptive_field import PIXEL, ReceptiveField, receptive_fields

__all__ = ["plot_receptive_fields"]


def plot_receptive_fields(
    model: Layer,
    image: Array,
    layers: Sequence[str] | None = None,
    *,
    unit: tuple[float, float] = (0.5, 0.5),
    ax: Any = None,
) -> Any:
    """Draw on an image what one unit of each layer sees.

    Parameters
    ----------
    model : Layer
        Built or not; not changed.
    image : array (C, H, W)
        One image, on any backend, of any type.
    layers : sequence of str, optional
        Paths; by default the direct children of the model whose field is larger than that of the child before.
    unit : (float, float), default (0.5, 0.5)
        Which unit of each layer: 0 the first row (column), 1 the last.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib.figure.Figure
        A rectangle for each layer, named in the legend with its size.

    Raises
    ------
    ArgumentError
        As `receptive_fields`; or if there is no such layer (those that exist are listed) or unit.
    ShapeError
        If the layers do not fit the image.
    ValueError
        If `ax` is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_receptive_fields
    >>> figure = plot_receptive_fields(LeNet(), np.zeros((1, 28, 28)))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['conv1: 5 x 5', 'pool1: 6 x 6', 'conv2: 14 x 14', 'pool2: 16 x 16']
    """
    if not all(0.0 <= u <= 1.0 for u in unit):
        raise ArgumentError("plot_receptive_fields", f"unit must be two numbers from 0 to 1, got {unit!r}")
    fields = receptive_fields(model, tuple(image.shape))
    chosen = _growing(fields) if layers is None else _named(model, fields, layers)
    form = image_format(model)
    (axes,) = axes_for("plot_receptive_fields", ax, 1, "for the image", size=(6.5, 4.5))
    show(axes, picture(to_numpy(to_nchw(image[None, ...], form))[0]))
    for number, field in enumerate(chosen):
        _, rows, columns = image_shape("plot_receptive_fields", field.output_shape, form)
        i, j = round(unit[0] * (rows - 1)), round(unit[1] * (columns - 1))
        top, bottom, left, right = field.extent(i, j)
        label = f"{field.path}: {field.size[0]:g} x {field.size[1]:g}"
        colour = f"C{number % 10}"
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, label=label)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize="small")
    axes.set_anchor("W")
    return axes.figure


def _growing(fields: list[ReceptiveField]) -> list[ReceptiveField]:
    chosen: list[ReceptiveField] = []
    for field in fields:
        if "." not in field.path and field.size != (chosen[-1].size if chosen else PIXEL.size):
            chosen.append(field)
    return chosen


def _named(model: Layer, fields: list[ReceptiveField], layers: Sequence[str]) -> list[ReceptiveField]:
    by_path = {field.path: field for field in fields}
    for path in layers:
        if path not in by_path:
            find_layer("plot_receptive_fields", model, path)
            raise ArgumentError("plot_receptive_fields", f"{path!r} gives no image; layers that do: {listed(by_path)}")
    return [by_path[path] for path in layers]
