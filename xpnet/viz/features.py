"""What a network has learnt to see: its filters, and the maps they make of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, to_numpy
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Layer
from xpnet.layers.data_format import to_nchw
from xpnet.text import listed, no_such
from xpnet.viz._drawing import axes_for, mosaic, picture, show, unit_range
from xpnet.viz._recording import (
    Recording,
    find_layer,
    image_format,
    joined,
    on_model,
    one_image,
)

__all__ = ["feature_maps", "plot_feature_maps", "plot_filters"]


def plot_filters(
    model: Layer,
    layer: str | None = None,
    *,
    before: Mapping[str, Array] | Array | None = None,
    limit: int = 64,
    ax: Any = None,
) -> Any:
    """Draw the filters of a convolution, each brought to the full range from black to white.

    Filters of one channel are grey, of three coloured. Of other numbers of channels each filter is a row and
    each of its channels a picture.

    Parameters
    ----------
    model : Layer
        A built model, or a convolution by itself.
    layer : str, optional
        Path of the convolution, such as ``"conv1"``; by default the first one.
    before : mapping of str to array or array (F, C, KH, KW), optional
        The filters at another time, drawn before those of now: what `state_dict` of the model returned then,
        or the filters alone. On any backend.
    limit : int, default 64
        Draw the first so many filters (and channels) at most.
    ax : matplotlib axes, or with `before` a sequence of two, optional

    Returns
    -------
    matplotlib.figure.Figure
        One axes, or two: before and after.

    Raises
    ------
    ArgumentError
        If there is no such layer or it has no filters, or `before` does not hold them; what exists is listed.
    ShapeError
        If the filters before have another shape.
    StateError
        If the model has not been built.
    ValueError
        If there are too few axes.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 7.6.

    Examples
    --------
    >>> from xpnet.models import SimpleConvNet
    >>> from xpnet.viz import plot_filters
    >>> model = SimpleConvNet().build((1, 28, 28), rng=0)
    >>> start = model.state_dict()
    >>> figure = plot_filters(model, before=start)  # after some training
    >>> [ax.get_title() for ax in figure.axes]
    ['conv.W before', 'conv.W']
    """
    model._require_built("plot_filters")
    path = _first_convolution(model) if layer is None else layer
    name = joined(path, "W")
    weights = getattr(find_layer("plot_filters", model, path), "W", None)
    if weights is None or len(weights.shape) != 4:
        there = [n.removesuffix(".W") for n, p in model.named_parameters() if n.endswith("W") and len(p.shape) == 4]
        raise ArgumentError("plot_filters", f"layer {path!r} has no filters; layers that have: {listed(there)}")
    shown = [(name, weights.data)]
    if before is not None:
        shown.insert(0, (f"{name} before", _filters_in(before, name, weights.shape)))
    axes = axes_for("plot_filters", ax, len(shown), "one for the filters before and one for those of now")
    for one, (title, W) in zip(axes, shown, strict=True):
        show(one, _filter_mosaic(to_numpy(W)[:limit, :limit]), title)
    return axes[0].figure


def _first_convolution(model: Layer) -> str:
    for name, p in model.named_parameters():
        if len(p.shape) == 4 and name.rpartition(".")[2] == "W":
            return name.rpartition(".")[0]
    raise ArgumentError("plot_filters", f"the {type(model).__name__} has no convolution with filters W (F, C, KH, KW)")


def _filters_in(before: Mapping[str, Array] | Array, name: str, shape: tuple[int, ...]) -> Array:
    if isinstance(before, Mapping):
        if name not in before:
            raise ArgumentError("plot_filters", no_such("array", name, before, of="before"))
        before = before[name]
    if tuple(before.shape) != shape:
        raise ShapeError("plot_filters", f"before has shape {tuple(before.shape)} but the filters are {shape}")
    return before


def _filter_mosaic(W: np.ndarray) -> np.ndarray:
    W = W.astype(np.float64)
    if W.shape[1] in (1, 3):
        return mosaic([unit_range(picture(w)) for w in W])
    return mosaic([unit_range(w) for one in W for w in one], columns=W.shape[1])


def feature_maps(model: Layer, x: Array, layers: Sequence[str] | None = None) -> dict[str, Array]:
    """Return the outputs of layers inside a model, in inference mode.

    Parameters
    ----------
    model : Layer
        Built; not changed.
    x : array (N, ...), float
        On any backend; copied to the model's, in its type, if need be.
    layers : sequence of str, optional
        Paths such as ``"conv1"`` or ``"block1_1.body.0"``; by default all there are.

    Returns
    -------
    dict of str to array (N, ...)
        By path, on the model's backend, in the order asked for.

    Raises
    ------
    ArgumentError
        If there is no such layer, or it lies inside of one that runs its children in a way of its own.
    StateError
        If the model has not been built.
    OperationError
        If the model cannot take `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import feature_maps
    >>> maps = feature_maps(LeNet().build((1, 28, 28)), np.zeros((2, 1, 28, 28)), ["conv1", "pool2"])
    >>> {path: y.shape for path, y in maps.items()}
    {'conv1': (2, 6, 24, 24), 'pool2': (2, 16, 4, 4)}
    """
    outputs = Recording("feature_maps", model, on_model("feature_maps", model, x)).outputs
    if layers is None:
        return {path: y for path, y in outputs.items() if path}  # the model itself has none
    for path in layers:
        if path not in outputs:
            find_layer("feature_maps", model, path)
            raise ArgumentError("feature_maps", f"the output of {path!r} cannot be seen from outside of its parent")
    return {path: outputs[path] for path in layers}


def plot_feature_maps(
    model: Layer, image: Array, layers: Sequence[str] | None = None, *, limit: int = 64, ax: Any = None
) -> Any:
    """Draw an image and the maps that layers make of it, each map from its smallest (black) to its largest value.

    Parameters
    ----------
    model : Layer
        Built; not changed.
    image : array (C, H, W), float
        One image as the model takes it (scaled alike), on any backend.
    layers : sequence of str, optional
        Paths; by default the direct children of the model whose output are images.
    limit : int, default 64
        Draw the first so many maps of a layer at most.
    ax : sequence of matplotlib axes, optional
        One for the image and one for each layer.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        If there is no such layer (those that exist are listed), or its output is no image.
    StateError
        If the model has not been built.
    ShapeError
        If `image` is not one image.
    ValueError
        If there are too few axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_feature_maps
    >>> image = np.random.default_rng(0).random((1, 28, 28))
    >>> figure = plot_feature_maps(LeNet().build((1, 28, 28)), image)
    >>> [ax.get_title() for ax in figure.axes]
    ['image', 'conv1', 'pool1', 'conv2', 'pool2']
    """
    x = one_image("plot_feature_maps", model, image)
    wanted = (list(model.children()) or [""]) if layers is None else list(layers)
    maps = feature_maps(model, x, wanted)
    if layers is None:
        maps = {path: y for path, y in maps.items() if len(y.shape) == 4}
    flat = [path for path, y in maps.items() if len(y.shape) != 4]
    if flat:
        raise ArgumentError("plot_feature_maps", f"the output of {', '.join(flat)} is no image but features")
    if not maps:
        raise ArgumentError("plot_feature_maps", f"no layer of the {type(model).__name__} makes images")
    axes = axes_for(
        "plot_feature_maps", ax, 1 + len(maps), f"one for the image and one each for {', '.join(maps)}", columns=4
    )
    form = image_format(model)
    show(axes[0], picture(to_numpy(to_nchw(x, form))[0]), "image")
    for one, (path, y) in zip(axes[1:], maps.items(), strict=True):
        planes = to_numpy(to_nchw(y, form))[0, :limit].astype(np.float64)
        show(one, mosaic([unit_range(p) for p in planes]), path or type(model).__name__)
    return axes[0].figure
