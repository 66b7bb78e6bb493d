"""The ways optimizers take down a surface of two parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnet import backend, optim
from xpnet.functional.checks import check_positive_int
from xpnet.gradcheck import numerical_gradient
from xpnet.init import Fans
from xpnet.layers.base import Layer, Shape
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.optim import Optimizer
from xpnet.viz._drawing import axes_for

__all__ = ["BOWL", "SADDLE", "Surface", "optimizer_path", "plot_optimizer_paths"]

Point = tuple[float, float]


class Surface(NamedTuple):
    """A function of two numbers, where to start on it, what of it to draw, and learning rates that suit it."""

    name: str
    f: Callable[[Any, Any], Any]
    start: Point
    x_range: Point
    y_range: Point
    rates: Mapping[str, float]  # by the names of `xpnet.optim.by_name`


# the book's learning rates, and such for the others that they are seen to move
BOWL = Surface(
    "x²/20 + y²",
    lambda x, y: x**2 / 20 + y**2,
    start=(-7.0, 2.0),
    x_range=(-10.0, 10.0),
    y_range=(-5.0, 5.0),
    rates={
        "sgd": 0.95,
        "momentum": 0.1,
        "nesterov": 0.1,
        "adagrad": 1.5,
        "adadelta": 20.0,
        "rmsprop": 0.1,
        "adam": 0.3,
    },
)
# one rate for all (AdaDelta's has no unit), started a hair beside the ridge that leads to the saddle point
SADDLE = Surface(
    "y² - x²",
    lambda x, y: y**2 - x**2,
    start=(1e-4, 1.0),
    x_range=(-1.5, 1.5),
    y_range=(-1.5, 1.5),
    rates=dict.fromkeys(("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"), 0.1) | {"adadelta": 1.0},
)


class _Point(Layer):
    """A model whose only weights are the two coordinates."""

    w: Parameter

    def __init__(self, start: Point) -> None:
        super().__init__()
        self.start = start

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        return {"w": ParameterSpec((2,), lambda rng, shape, fans: np.array(self.start), Fans(1, 1), decay=True)}


def optimizer_path(optimizer: Optimizer, f: Callable[[Any, Any], Any], start: Point, *, steps: int = 30) -> np.ndarray:
    """Return where an optimizer goes from a point, step by step.

    Parameters
    ----------
    optimizer : Optimizer
        A new one; it belongs to the path from then on.
    f : callable
        From x and y to the height; its gradient is found by central differences.
    start : (float, float)
    steps : int, default 30

    Returns
    -------
    numpy.ndarray (steps + 1, 2), float64
        The start and the point after each update.

    Raises
    ------
    StateError
        If the optimizer has already updated another model.
    ValueError
        If steps is below 1, or the path leaves the finite numbers: lower the learning rate.

    Examples
    --------
    >>> from xpnet.optim import SGD
    >>> from xpnet.viz import optimizer_path
    >>> optimizer_path(SGD(lr=0.25), lambda x, y: x**2 + y**2, (4.0, -2.0), steps=2).round(6)
    array([[ 4. , -2. ],
           [ 2. , -1. ],
           [ 1. , -0.5]])
    """
    steps = check_positive_int("optimizer_path", "steps", steps)
    with backend.using("numpy", dtype="float64"), np.errstate(all="ignore"):
        model = _Point((float(start[0]), float(start[1])))
        model.build((2,))
        path = [model.w.data.copy()]
        for _ in range(steps):
            eps = 1e-4 * max(1.0, float(abs(path[-1]).max()))  # so that a path that flies away is seen to
            model.w.grad[...] = numerical_gradient(lambda w: float(f(w[0], w[1])), path[-1], eps=eps)
            optimizer.update(model)
            path.append(model.w.data.copy())
    if not np.isfinite(path).all():
        raise ValueError(f"optimizer_path: {optimizer!r} leaves the finite numbers; lower its learning rate")
    return np.stack(path)


def plot_optimizer_paths(
    surfaces: Sequence[Surface] = (BOWL, SADDLE),
    optimizers: Mapping[str, Callable[[], Optimizer]] | None = None,
    *,
    steps: int = 30,
    ax: Any = None,
) -> Any:
    """Draw the paths of optimizers over the contour lines of surfaces: a row for each surface.

    Parameters
    ----------
    surfaces : sequence of Surface, default (BOWL, SADDLE)
        `BOWL` is the book's x²/20 + y², much steeper across than along; `SADDLE` y² - x², started a
        hair beside the ridge that leads to the saddle point: of equal rates, SGD alone stays there.
    optimizers : mapping of str to function without arguments, optional
        Each makes a new optimizer, such as ``{"Adam": lambda: Adam(lr=0.3)}``. By default those of the surface's
        `rates`: SGD, momentum, Nesterov, AdaGrad, AdaDelta, RMSprop and Adam.
    steps : int, default 30
    ax : sequence of matplotlib axes, optional
        One for each pair of surface and optimizer, surface by surface.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If steps is below 1, there is nothing to draw, a path leaves the finite numbers, or there are too few axes.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 6.1.

    Examples
    --------
    >>> from xpnet.optim import SGD
    >>> from xpnet.viz import BOWL, plot_optimizer_paths
    >>> figure = plot_optimizer_paths([BOWL], {"SGD": lambda: SGD(lr=0.95)})
    >>> figure.axes[0].get_title()
    'SGD on x²/20 + y²'
    """
    pairs = [(surface, name, make()) for surface in surfaces for name, make in _makers(surface, optimizers).items()]
    if not pairs:
        raise ValueError("plot_optimizer_paths: give at least one surface and one optimizer")
    paths = [optimizer_path(optimizer, surface.f, surface.start, steps=steps) for surface, _, optimizer in pairs]
    what = "one for each optimizer on each surface"
    columns = len(pairs) // len(surfaces)
    axes = axes_for("plot_optimizer_paths", ax, len(pairs), what, columns=columns, size=(2.6, 2.4))
    for one, (surface, name, _), path in zip(axes, pairs, paths, strict=True):
        x, y = np.meshgrid(np.linspace(*surface.x_range, 101), np.linspace(*surface.y_range, 101))
        one.contour(x, y, surface.f(x, y), levels=12, linewidths=0.6, cmap="Greys")
        one.plot(path[:, 0], path[:, 1], "o-", color="C3", markersize=2, linewidth=1)
        one.plot(*surface.start, "s", color="C0", markersize=4)
        one.set_xlim(surface.x_range)
        one.set_ylim(surface.y_range)
        one.set_title(f"{name} on {surface.name}", fontsize="small")
    return axes[0].figure


def _makers(
    surface: Surface, optimizers: Mapping[str, Callable[[], Optimizer]] | None
) -> Mapping[str, Callable[[], Optimizer]]:
    if optimizers is not None:
        return optimizers
    chosen = [optim.by_name(name, lr=lr) for name, lr in surface.rates.items()]
    return {type(optimizer).__name__: lambda optimizer=optimizer: optimizer for optimizer in chosen}  # type: ignore[misc]
