"""What a unit answers to most: an image found by climbing its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, array_namespace, asarray_like, bounded, finfo, to_numpy
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.checks import check_not_negative, check_positive_int
from xpnet.layers import Layer
from xpnet.layers.data_format import from_nchw, to_nchw
from xpnet.random import generator
from xpnet.viz._drawing import axes_for, picture, show
from xpnet.viz._recording import Recording, image_format, on_model, up_to

__all__ = ["maximize_activation", "plot_activation_maximization"]

Unit = int | tuple[int, int, int]


def maximize_activation(
    model: Layer,
    layer: str,
    unit: Unit,
    *,
    steps: int = 100,
    lr: float = 0.1,
    decay: float = 0.0,
    bounds: tuple[float, float] | None = None,
    start: Array | None = None,
    seed: int = 0,
) -> Array:
    r"""Climb the gradient of a unit's activation with respect to the input image.

    .. math:: x \leftarrow x + \eta \left( \frac{g}{\sqrt{\overline{g^2}}} - \lambda x \right),
        \qquad g = \frac{\partial a}{\partial x}

    Each step has the same size, however steep the slope. Where the slope is zero (a relu that no pixel wakes),
    the image only decays; another `seed` or `start` may help.

    Parameters
    ----------
    model : Layer
        Built; not changed. It runs in inference mode.
    layer : str
        Path of a layer; ``""`` is the model itself.
    unit : int or (int, int, int)
        Of features (N, K), one of K. Of images, a channel (the mean of its map climbs), or one position
        (channel, row, column).
    steps : int, default 100
    lr : float, default 0.1
        Step size, in units of the pixels' root mean square change.
    decay : float, default 0
        Lambda: pulls the pixels to 0, so that what the unit does not care about stays grey.
    bounds : (float, float), optional
        Pixels are clipped to this range after each step.
    start : array (C, H, W), float, optional
        Where to start; by default noise of standard deviation 0.1 (around the middle of the bounds).
    seed : int, default 0
        Of that noise, the same on every backend.

    Returns
    -------
    array (C, H, W)
        The image (H, W, C if the layers are NHWC), on the model's backend and in its type.

    Raises
    ------
    ArgumentError
        If there is no such layer (those that exist are listed) or unit, or a setting is out of range.
    ShapeError
        If `start` has not the model's input shape.
    StateError
        If the model has not been built.

    References
    ----------
    Erhan, Bengio, Courville and Vincent, *Visualizing higher-layer features of a deep network* (2009);
    Simonyan, Vedaldi and Zisserman, arXiv:1312.6034, section 2, for the decay.

    Examples
    --------
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import maximize_activation
    >>> model = LeNet().build((1, 28, 28), rng=0)
    >>> maximize_activation(model, "conv2", 3, steps=5).shape
    (1, 28, 28)
    """
    name = "maximize_activation"
    model._require_built(name)
    part = up_to(name, model, layer)
    _check_settings(name, steps, lr, decay, bounds)
    x = _start(name, model, start, bounds, seed)
    xp = array_namespace(x)
    tiny = float(finfo(xp, x.dtype).smallest_normal)
    dy = None
    for _ in range(steps):
        recording = Recording(name, part, x)
        dy = _toward(name, layer, recording.y, unit, image_format(model)) if dy is None else dy
        g = recording.backward(dy)
        g = g / (xp.max(xp.abs(g)) + tiny)  # so that squares of tiny gradients do not vanish
        x = x + lr * (g / (xp.sqrt(xp.mean(g * g)) + tiny) - decay * x)
        if bounds is not None:
            x = bounded(xp, x, bounds[0], bounds[1])
    return x[0, ...]


def _check_settings(name: str, steps: Any, lr: float, decay: float, bounds: Any) -> None:
    check_positive_int(name, "steps", steps)
    check_not_negative(name, lr=lr, decay=decay)
    if bounds is not None and not (len(bounds) == 2 and -math.inf < bounds[0] < bounds[1] < math.inf):
        raise ArgumentError(name, f"bounds must be (low, high) with low < high, got {bounds!r}")


def _start(name: str, model: Layer, start: Array | None, bounds: tuple[float, float] | None, seed: int) -> Array:
    shape = model.input_shape
    assert shape is not None  # the model is built
    if start is None:
        middle = 0.0 if bounds is None else (bounds[0] + bounds[1]) / 2
        return on_model(name, model, middle + 0.1 * generator(seed).standard_normal((1, *shape)))
    if tuple(start.shape) != shape:
        raise ShapeError(name, f"start must have the model's input shape {shape}, got {tuple(start.shape)}")
    return on_model(name, model, start, "start")[None, ...]


def _toward(name: str, layer: str, y: Array, unit: Unit, form: str) -> Array:
    """Return the gradient, with respect to a layer's output, of a unit or of the mean of a map."""
    shape = tuple(to_nchw(y, form).shape[1:])
    index = unit if isinstance(unit, tuple) else (unit,)
    fits = len(index) == len(shape) or len(index) == 1
    if not (fits and all(hasattr(i, "__index__") and 0 <= i < n for i, n in zip(index, shape, strict=False))):
        kinds = "a channel, or (channel, row, column)," if len(shape) == 3 else "an int"
        raise ArgumentError(name, f"unit must be {kinds} within {shape}, the output of {layer!r}; got {unit!r}")
    wanted = np.zeros((1, *shape))
    wanted[(0, *index)] = 1.0 / math.prod(shape[len(index) :])
    return from_nchw(asarray_like(wanted, y), form)


def plot_activation_maximization(
    model: Layer,
    layer: str,
    units: Sequence[Unit] | Unit,
    *,
    ax: Any = None,
    **settings: Any,
) -> Any:
    """Draw for each unit the image that `maximize_activation` finds.

    Parameters
    ----------
    model : Layer
        Built; not changed.
    layer : str
        Path of a layer.
    units : sequence of int, or int, or (int, int, int), or a sequence of those
        Note that one tuple is one position; give several units as a list.
    ax : matplotlib axes or a sequence of them, one for each unit, optional
    **settings
        Of `maximize_activation`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OperationError
        As `maximize_activation`.
    ValueError
        If there are no units or too few axes.

    Examples
    --------
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_activation_maximization
    >>> figure = plot_activation_maximization(LeNet().build((1, 28, 28)), "conv1", [0, 1], steps=5)
    >>> [ax.get_title() for ax in figure.axes]
    ['conv1: 0', 'conv1: 1']
    """
    chosen: list[Any] = [units] if isinstance(units, tuple) or hasattr(units, "__index__") else list(units)
    if not chosen:
        raise ValueError("plot_activation_maximization: units must name at least one unit")
    images = [maximize_activation(model, layer, unit, **settings) for unit in chosen]
    axes = axes_for("plot_activation_maximization", ax, len(images), "one for each unit", columns=8, size=(1.8, 2.0))
    form = image_format(model)
    for one, unit, image in zip(axes, chosen, images, strict=True):
        show(one, picture(to_numpy(to_nchw(image[None, ...], form))[0]), f"{layer}: {unit}")
    return axes[0].figure
