"""Initial values of weights: the same numbers for the same seed on every backend.

Each function here returns an initialiser; layers call it with a generator, a shape and the fans. The
numbers are drawn on the host in float64 and rounded to the model's float type, so that models of
different backends or float types start from the same point.

>>> from xpnet import init
>>> from xpnet.layers import Dense
>>> layer = Dense(10, init=init.normal(0.01))
>>> layer = Dense(10, init="he_normal")  # by name, with its defaults
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from xpnet.text import no_such

__all__ = [
    "Fans",
    "Initializer",
    "by_name",
    "constant",
    "draw",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = tuple[int, ...]


class Fans(NamedTuple):
    """How many inputs a unit sees, and how many units see an input (kernel positions counted)."""

    fan_in: int
    fan_out: int


Initializer = Callable[[np.random.Generator, Shape, Fans], np.ndarray]


def draw(init: Initializer, rng: np.random.Generator, shape: Shape, fans: Fans, dtype: str = "float32") -> np.ndarray:
    """Draw initial values and round them to float32, or keep them in float64 for a model of that type."""
    values = np.asarray(init(rng, shape, fans), dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"the initialiser returned shape {values.shape} where {shape} was asked for")
    return values if dtype == "float64" else values.astype(np.float32)


def constant(value: float) -> Initializer:
    """Every element is `value`."""
    return partial(_constant, value)


def zeros() -> Initializer:
    """Every element is 0: for biases."""
    return constant(0.0)


def ones() -> Initializer:
    """Every element is 1: for the scales of normalisation."""
    return constant(1.0)


def normal(std: float = 0.01, mean: float = 0.0) -> Initializer:
    """Normal distribution; the book's ``weight_init_std`` is `std`.

    Parameters
    ----------
    std : float, default 0.01
    mean : float, default 0

    Raises
    ------
    ValueError
        If std is negative.

    Examples
    --------
    >>> from xpnet import init
    >>> from xpnet.random import generator
    >>> init.normal(0.01)(generator(0), (2, 3), init.Fans(2, 3)).shape
    (2, 3)
    """
    _check_not_negative("normal", "std", std)
    return partial(_normal, std, mean)


def truncated_normal(std: float = 0.01, mean: float = 0.0, bound: float = 2.0) -> Initializer:
    """Normal distribution without what lies more than `bound` standard deviations off the mean.

    Values outside are drawn again, so the standard deviation of what remains is a little below `std`
    (0.880 of it at bound 2).

    Raises
    ------
    ValueError
        If std is negative or bound is below 0.5 (where redrawing would take for ever).
    """
    _check_not_negative("truncated_normal", "std", std)
    if not bound >= 0.5:
        raise ValueError(f"init.truncated_normal: bound must be at least 0.5 standard deviations, got {bound!r}")

    return partial(_truncated_normal, std, mean, bound)


def uniform(low: float = -0.05, high: float = 0.05) -> Initializer:
    """Uniform distribution between `low` and `high`.

    Raises
    ------
    ValueError
        If low is above high.
    """
    if not low <= high:
        raise ValueError(f"init.uniform: low must not be above high, got {low!r} and {high!r}")
    return partial(_uniform, low, high)


def he_normal() -> Initializer:
    """Normal with std = sqrt(2 / fan_in): keeps the variance through relu (He et al., arXiv:1502.01852)."""
    return partial(_scaled_normal, 2.0, _inputs)


def he_uniform() -> Initializer:
    """Uniform on +-sqrt(6 / fan_in), of the same variance as `he_normal`."""
    return partial(_scaled_uniform, 6.0, _inputs)


def glorot_normal() -> Initializer:
    """Normal with std = sqrt(2 / (fan_in + fan_out)): for sigmoid and tanh (Glorot and Bengio, 2010)."""
    return partial(_scaled_normal, 2.0, sum)


def glorot_uniform() -> Initializer:
    """Uniform on +-sqrt(6 / (fan_in + fan_out)), of the same variance as `glorot_normal`."""
    return partial(_scaled_uniform, 6.0, sum)


def lecun_normal() -> Initializer:
    """Normal with std = sqrt(1 / fan_in): for selu and linear units (LeCun et al., 1998; arXiv:1706.02515)."""
    return partial(_scaled_normal, 1.0, _inputs)


def lecun_uniform() -> Initializer:
    """Uniform on +-sqrt(3 / fan_in), of the same variance as `lecun_normal`."""
    return partial(_scaled_uniform, 3.0, _inputs)


def orthogonal(gain: float = 1.0) -> Initializer:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Weights of more than two axes (F, C, KH, KW) count as a matrix (F, C * KH * KW). Every such matrix
    is equally likely: the Q of a QR decomposition of normal numbers, its signs made those of R's
    diagonal (Saxe, McClelland and Ganguli, arXiv:1312.6120). Between linear algebra libraries the last
    digit may differ, unlike with the other initialisers.

    Parameters
    ----------
    gain : float, default 1
        Such as sqrt(2) before relu.

    Raises
    ------
    ValueError
        If gain is negative, or, when drawing, if the weights have fewer than two axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import init
    >>> from xpnet.random import generator
    >>> W = init.orthogonal()(generator(0), (2, 5), init.Fans(2, 5))
    >>> np.round(W @ W.T, 12)
    array([[1., 0.],
           [0., 1.]])
    """
    _check_not_negative("orthogonal", "gain", gain)

    return partial(_orthogonal, gain)


xavier_normal = glorot_normal
xavier_uniform = glorot_uniform

_NAMES: dict[str, Callable[[], Initializer]] = {
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "normal": normal,
    "ones": ones,
    "orthogonal": orthogonal,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "zeros": zeros,
}


def by_name(name: str | Initializer) -> Initializer:
    """Return the initialiser of that name with its defaults; an initialiser passes through.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if callable(name):
        return name
    if name not in _NAMES:
        raise ValueError(f"init: {no_such('initialiser', name, _NAMES)}")
    return _NAMES[name]()


def _check_not_negative(function: str, argument: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"init.{function}: {argument} must not be negative, got {value!r}")


# What the initialisers do. They are functions of the module, completed by `partial`: a model that keeps a function made
# inside of another could not be pickled, and so not be given to another process.

_Generator = np.random.Generator


def _constant(value: float, rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    return np.full(shape, float(value))


def _normal(std: float, mean: float, rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    return mean + std * rng.standard_normal(shape)


def _truncated_normal(std: float, mean: float, bound: float, rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    z = rng.standard_normal(shape)
    while (outside := np.abs(z) > bound).any():
        z[outside] = rng.standard_normal(int(outside.sum()))
    return mean + std * z


def _uniform(low: float, high: float, rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    return rng.uniform(low, high, shape)


def _inputs(fans: Fans) -> int:
    return fans.fan_in


def _scaled_normal(gain: float, seen: Callable[[Fans], int], rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    return math.sqrt(gain / seen(fans)) * rng.standard_normal(shape)


def _scaled_uniform(gain: float, seen: Callable[[Fans], int], rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    return math.sqrt(gain / seen(fans)) * rng.uniform(-1.0, 1.0, shape)


def _orthogonal(gain: float, rng: _Generator, shape: Shape, fans: Fans) -> np.ndarray:
    if len(shape) < 2:
        raise ValueError(f"init.orthogonal: weights of at least 2 axes needed, got shape {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diagonal(r) < 0.0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(shape)
