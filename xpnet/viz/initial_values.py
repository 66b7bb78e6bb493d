"""How initial weights spread the activations of a deep network, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet import init as initializers
from xpnet.backend import Array, asarray, get, to_numpy
from xpnet.functional.checks import check_positive_int
from xpnet.init import Initializer
from xpnet.layers import Dense, Layer, Sequential
from xpnet.random import generator
from xpnet.viz._drawing import axes_for
from xpnet.viz.features import feature_maps

__all__ = ["INITIAL_VALUES", "initial_activations", "plot_activation_histograms", "plot_initial_activations"]

INITIAL_VALUES: dict[str, Initializer] = {
    "normal, std 1": initializers.normal(1.0),
    "normal, std 0.01": initializers.normal(0.01),
    "Xavier": initializers.xavier_normal(),
    "He": initializers.he_normal(),
}


def plot_activation_histograms(
    model: Layer,
    x: Array,
    layers: Sequence[str] | None = None,
    *,
    bins: int = 30,
    range: tuple[float, float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how the outputs of layers are distributed, over all units and samples.

    Parameters
    ----------
    model : Layer
        Built; not changed.
    x : array (N, ...), float
        On any backend.
    layers : sequence of str, optional
        Paths; by default the direct children of the model.
    bins : int, default 30
    range : (float, float), optional
        Of the values; by default from the smallest to the largest of each layer.
    ax : sequence of matplotlib axes, one for each layer, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OperationError
        As `feature_maps`.
    ValueError
        If there are no layers or too few axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_activation_histograms
    >>> figure = plot_activation_histograms(LeNet().build((1, 28, 28)), np.ones((4, 1, 28, 28)), ["conv1", "dense2"])
    >>> [ax.get_title() for ax in figure.axes]
    ['conv1', 'dense2']
    """
    outputs = feature_maps(model, x, list(model.children()) if layers is None else layers)
    if not outputs:
        raise ValueError("plot_activation_histograms: no layers to draw; name at least one in layers")
    what = f"one each for {', '.join(outputs)}"
    axes = axes_for("plot_activation_histograms", ax, len(outputs), what, columns=6, size=(2.4, 2.0))
    for one, (path, y) in zip(axes, outputs.items(), strict=True):
        _histogram(one, to_numpy(y), bins, range)
        one.set_title(path)
    return axes[0].figure


def _histogram(ax: Any, values: np.ndarray, bins: int, limits: tuple[float, float] | None) -> None:
    counts, edges = np.histogram(values.astype(np.float64), bins=bins, range=limits)
    ax.stairs(counts, edges, fill=True)
    ax.set_yticks([])
    ax.tick_params(labelsize="x-small")
    ax.ticklabel_format(axis="x", scilimits=(-2, 3))
    ax.locator_params(axis="x", nbins=3)


def initial_activations(
    init: str | Initializer,
    activation: str,
    *,
    layers: int = 5,
    units: int = 100,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Array]:
    """Return what a network of equal dense layers, just initialised, makes of normally distributed input.

    Parameters
    ----------
    init : str or initialiser
        Of the weights; the biases are 0.
    activation : str
        ``"sigmoid"``, ``"tanh"``, ``"relu"``, ...
    layers, units, samples : int, default 5, 100 and 1000
        As in the book.
    seed : int, default 0
        Of weights and input.

    Returns
    -------
    dict of str to array (samples, units)
        The output of each layer, ``"1"`` the first, on the selected backend.

    Raises
    ------
    ValueError
        If a name is unknown or a number below 1.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 6.2; Glorot and Bengio, *Understanding the difficulty of
    training deep feedforward neural networks* (2010).

    Examples
    --------
    >>> from xpnet import backend
    >>> from xpnet.viz import initial_activations
    >>> with backend.using("numpy"):
    ...     outputs = initial_activations("he_normal", "relu")
    >>> [round(float((y**2).mean())) for y in outputs.values()]  # neither vanishing nor exploding
    [1, 1, 1, 1, 1]
    """
    for name, value in (("layers", layers), ("units", units), ("samples", samples)):
        check_positive_int("initial_activations", name, value)
    dense = {str(i + 1): Dense(units, activation=activation, init=init) for i in range(layers)}
    model = Sequential(dense).build((units,), rng=seed)
    x = asarray(generator(seed, 1).standard_normal((samples, units)), dtype=get().dtype)
    return feature_maps(model, x)


def plot_initial_activations(
    inits: Mapping[str, str | Initializer] | None = None,
    activations: Sequence[str] = ("sigmoid", "tanh", "relu"),
    *,
    layers: int = 5,
    units: int = 100,
    samples: int = 1000,
    seed: int = 0,
    bins: int = 30,
    ax: Any = None,
) -> Any:
    """Draw histograms of `initial_activations`: a row for each initialiser and activation, a column for each layer.

    Parameters
    ----------
    inits : mapping of str to str or initialiser, optional
        By their names in the picture; by default `INITIAL_VALUES`: normal with standard deviations 1 and 0.01,
        Xavier and He.
    activations : sequence of str, default ("sigmoid", "tanh", "relu")
    layers, units, samples, seed
        As for `initial_activations`.
    bins : int, default 30
    ax : sequence of matplotlib axes, optional
        One for each histogram, row after row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a name is unknown, a number below 1, there is nothing to draw, or there are too few axes.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 6.2.

    Examples
    --------
    >>> from xpnet.viz import plot_initial_activations
    >>> figure = plot_initial_activations({"Xavier": "xavier_normal"}, ["tanh"], layers=3)
    >>> [ax.get_title() for ax in figure.axes]
    ['layer 1', 'layer 2', 'layer 3']
    >>> figure.axes[0].get_ylabel()
    'tanh\\nXavier'
    """
    chosen = INITIAL_VALUES if inits is None else inits
    rows = [(f"{activation}\n{name}", activation, init) for activation in activations for name, init in chosen.items()]
    if not rows:
        raise ValueError("plot_initial_activations: give at least one initialiser and one activation")
    drawn = [
        initial_activations(init, activation, layers=layers, units=units, samples=samples, seed=seed)
        for _, activation, init in rows
    ]
    what = f"{layers} for each of the {len(rows)} rows"
    axes = axes_for("plot_initial_activations", ax, len(rows) * layers, what, columns=layers, size=(1.8, 1.5))
    for row, ((label, activation, _), outputs) in enumerate(zip(rows, drawn, strict=True)):
        limits = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}.get(activation)
        for column, (name, y) in enumerate(outputs.items()):
            one = axes[row * layers + column]
            _histogram(one, to_numpy(y), bins, limits)
            if row == 0:
                one.set_title(f"layer {name}")
            if column == 0:
                one.set_ylabel(label, fontsize="small")
    return axes[0].figure
