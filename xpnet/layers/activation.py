"""Activations as layers, and the table by which other layers take them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from xpnet.layers.base import Layer, Shape
from xpnet.layers.summary import Keeps

__all__ = ["Activation", "ReLU", "Sigmoid", "Softmax", "Tanh", "activation_pair"]

Pair = tuple[Callable[..., tuple[Array, Any]], Callable[..., Array]]

_ACTIVATIONS: dict[str, Pair] = {
    "relu": (relu_forward, relu_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "softmax": (softmax_forward, softmax_backward),
    "tanh": (tanh_forward, tanh_backward),
}


def activation_pair(operation: str, name: str | None) -> Pair | None:
    """Return forward and backward of the activation called `name`; None for None or ``"identity"``.

    Raises
    ------
    ArgumentError
        If the name is unknown.
    """
    if name is None or name == "identity":
        return None
    if name not in _ACTIVATIONS:
        raise ArgumentError(operation, f"no activation {name!r}; there are identity, {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class Activation(Layer):
    """An activation by name.

    Parameters
    ----------
    name : {"identity", "relu", "sigmoid", "softmax", "tanh"}
        Softmax runs along the last axis.

    Raises
    ------
    ArgumentError
        If the name is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Activation
    >>> Activation("relu")(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._pair = activation_pair(type(self).__name__, name)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        return (x, None) if self._pair is None else self._pair[0](x)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return dy if self._pair is None else self._pair[1](dy, ctx)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(output=self._pair is not None)

    def _settings(self) -> dict[str, Any]:
        return {"name": self.name} if type(self) is Activation else {}


class ReLU(Activation):
    """max(x, 0); see `xpnet.functional.relu_forward`."""

    def __init__(self) -> None:
        super().__init__("relu")


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); see `xpnet.functional.sigmoid_forward`."""

    def __init__(self) -> None:
        super().__init__("sigmoid")


class Tanh(Activation):
    """tanh(x); see `xpnet.functional.tanh_forward`."""

    def __init__(self) -> None:
        super().__init__("tanh")


class Softmax(Activation):
    """Probabilities along the last axis; for training, `xpnet.losses.SoftmaxCrossEntropy` contains it."""

    def __init__(self) -> None:
        super().__init__("softmax")
