"""Activations as layers, and the table by which other layers take them by name."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet import functional as F
from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional.activation import (
    relu_backward_of_new,
    relu_of_new,
    sigmoid_backward_of_new,
    sigmoid_of_new,
    tanh_backward_of_new,
)
from xpnet.functional.checks import check_not_negative
from xpnet.functional.gated import APPROXIMATIONS
from xpnet.layers.base import Layer, Shape
from xpnet.layers.summary import Keeps, Tensor, Trace
from xpnet.text import no_such

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "Affine",
    "DoneBefore",
    "Exponential",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "LogSoftmax",
    "Mish",
    "Pair",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Step",
    "Tanh",
    "activation_pair",
    "keeps_with_activation",
]


class Pair(NamedTuple):
    """Forward and backward of an activation, and which array it keeps: ``"input"``, ``"output"`` or ``""``.

    `of_new` and `backward_of_new` may use the memory of what they are given, which nobody else keeps.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array]
    kept: str
    of_new: Callable[..., tuple[Array, Any]] | None = None
    backward_of_new: Callable[..., Array] | None = None

    def back(self, dy: Array, ctx: Any, overwrite: bool) -> Array:
        """Return dx; with `overwrite` its memory may be that of dy."""
        return ((overwrite and self.backward_of_new) or self.backward)(dy, ctx)


class DoneBefore(NamedTuple):
    """Kept in place of a context where the layer before has done the activation, and does its backward."""


_ACTIVATIONS: dict[str, Pair] = {
    "relu": Pair(F.relu_forward, F.relu_backward, "output", relu_of_new, relu_backward_of_new),
    "sigmoid": Pair(F.sigmoid_forward, F.sigmoid_backward, "output", sigmoid_of_new, sigmoid_backward_of_new),
    "softmax": Pair(F.softmax_forward, F.softmax_backward, "output"),
    "tanh": Pair(F.tanh_forward, F.tanh_backward, "output", None, tanh_backward_of_new),
    "affine": Pair(F.affine_forward, F.affine_backward, ""),
    "elu": Pair(F.elu_forward, F.elu_backward, "output"),
    "exponential": Pair(F.exponential_forward, F.exponential_backward, "output"),
    "gelu": Pair(F.gelu_forward, F.gelu_backward, "input"),
    "hard_sigmoid": Pair(F.hard_sigmoid_forward, F.hard_sigmoid_backward, "output"),
    "hard_swish": Pair(F.hard_swish_forward, F.hard_swish_backward, "input"),
    "leaky_relu": Pair(F.leaky_relu_forward, F.leaky_relu_backward, "output"),
    "log_softmax": Pair(F.log_softmax_forward, F.log_softmax_backward, "output"),
    "mish": Pair(F.mish_forward, F.mish_backward, "input"),
    "relu6": Pair(F.relu6_forward, F.relu6_backward, "output"),
    "selu": Pair(F.selu_forward, F.selu_backward, "output"),
    "silu": Pair(F.silu_forward, F.silu_backward, "input"),
    "softplus": Pair(F.softplus_forward, F.softplus_backward, "output"),
    "softsign": Pair(F.softsign_forward, F.softsign_backward, "output"),
    "step": Pair(F.step_forward, F.step_backward, ""),
}


def activation_pair(operation: str, name: str | None, **settings: Any) -> Pair | None:
    """Return forward and backward of the activation called `name`; None for None or ``"identity"``.

    Parameters
    ----------
    operation : str
        Who asks, for error messages.
    name : str, optional
    **settings
        As for its forward: ``slope`` of leaky_relu, ``alpha`` of elu, ...

    Raises
    ------
    ArgumentError
        If the name, or a setting or its value, is unknown to it.
    """
    pair = None if name is None or name == "identity" else _ACTIVATIONS.get(name)
    if pair is None:
        if name == "prelu":
            raise ArgumentError(operation, "prelu has slopes to learn; put the layer PReLU() after this one instead")
        if name is not None and name != "identity":
            raise ArgumentError(operation, no_such("activation", name, ["identity", *_ACTIVATIONS]))
        known: list[str] = []
    else:
        known = list(_defaults(pair))
    for setting, value in settings.items():
        if setting not in known:
            raise ArgumentError(operation, no_such("setting", setting, known, of=f"{name}"))
        if setting in ("alpha", "slope") and name != "affine":
            check_not_negative(operation, **{setting: value})
        if setting == "approximate" and value not in APPROXIMATIONS:
            raise ArgumentError(operation, f"approximate must be one of {', '.join(APPROXIMATIONS)}, got {value!r}")
    if pair is None or not settings:
        return pair
    return pair._replace(forward=functools.partial(pair.forward, **settings))


def _defaults(pair: Pair) -> dict[str, Any]:
    """Return the settings of an activation and their defaults: the keyword arguments of its forward."""
    parameters = inspect.signature(pair.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def keeps_with_activation(pair: Pair | None, output_shape: Shape, itemsize: int) -> Keeps:
    """Return what a layer keeps that keeps its input and ends in an activation."""
    if pair is None or not pair.kept:
        return Keeps(input=True)
    if pair.kept == "output":
        return Keeps(input=True, output=True)
    return Keeps(input=True, extra_bytes=math.prod(output_shape) * itemsize)  # what the activation was given


class Activation(Layer):
    """An activation by name.

    Parameters
    ----------
    name : str
        ``"identity"``, ``"relu"``, ``"leaky_relu"``, ... as in the names of `xpnet.functional`.
    **settings
        As for its forward: ``Activation("leaky_relu", slope=0.2)``. Softmax runs along the last axis
        unless `axis` is given.

    Raises
    ------
    ArgumentError
        If the name, or a setting or its value, is unknown to it.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Activation
    >>> Activation("relu")(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        self.name = name
        self.settings = settings
        self._pair = activation_pair(type(self).__name__, name, **settings)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        return (x, None) if self._pair is None else self._pair.forward(x)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool = False) -> Array | None:
        if not need_dx:
            return None
        return dy if self._pair is None or isinstance(ctx, DoneBefore) else self._pair.back(dy, ctx, overwrite)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        kept = "" if self._pair is None else self._pair.kept
        return Keeps(input=kept == "input", output=kept == "output")

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        if self._pair is not None:
            return super()._trace(trace, path, x)
        trace.add(self, path, x, x)  # the same memory
        return x

    def _settings(self) -> dict[str, Any]:
        defaults = _defaults(_ACTIVATIONS[self.name]) if self.settings else {}
        shown = {k: v for k, v in self.settings.items() if v != defaults[k]}
        return {"name": self.name, **shown} if type(self) is Activation else shown


class Identity(Activation):
    """The input itself; see `xpnet.functional.identity_forward`."""

    def __init__(self) -> None:
        super().__init__("identity")


class Affine(Activation):
    """slope * x + intercept with two fixed numbers; the book's Affine, with weights, is `Dense`."""

    def __init__(self, slope: float = 1.0, intercept: float = 0.0) -> None:
        super().__init__("affine", slope=float(slope), intercept=float(intercept))


class Step(Activation):
    """1 where x > 0, else 0, and no gradient at all; see `xpnet.functional.step_forward`."""

    def __init__(self) -> None:
        super().__init__("step")


class ReLU(Activation):
    """max(x, 0); see `xpnet.functional.relu_forward`."""

    def __init__(self) -> None:
        super().__init__("relu")


class LeakyReLU(Activation):
    """x where x > 0, else slope * x; see `xpnet.functional.leaky_relu_forward`."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__("leaky_relu", slope=slope)


class ELU(Activation):
    """x where x > 0, else alpha * (exp(x) - 1); see `xpnet.functional.elu_forward`."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__("elu", alpha=alpha)


class SELU(Activation):
    """The scaled elu of self-normalizing networks; see `xpnet.functional.selu_forward`."""

    def __init__(self) -> None:
        super().__init__("selu")


class GELU(Activation):
    """x * P(X < x) for a normal X; `approximate` "none" or "tanh"; see `xpnet.functional.gelu_forward`."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__("gelu", approximate=approximate)


class SiLU(Activation):
    """x * sigmoid(x), also known as swish; see `xpnet.functional.silu_forward`."""

    def __init__(self) -> None:
        super().__init__("silu")


class Mish(Activation):
    """x * tanh(softplus(x)); see `xpnet.functional.mish_forward`."""

    def __init__(self) -> None:
        super().__init__("mish")


class HardSwish(Activation):
    """x * clip(x + 3, 0, 6) / 6; see `xpnet.functional.hard_swish_forward`."""

    def __init__(self) -> None:
        super().__init__("hard_swish")


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); see `xpnet.functional.sigmoid_forward`."""

    def __init__(self) -> None:
        super().__init__("sigmoid")


class ReLU6(Activation):
    """clip(x, 0, 6); see `xpnet.functional.relu6_forward`."""

    def __init__(self) -> None:
        super().__init__("relu6")


class HardSigmoid(Activation):
    """clip(0.2 * x + 0.5, 0, 1); see `xpnet.functional.hard_sigmoid_forward`."""

    def __init__(self) -> None:
        super().__init__("hard_sigmoid")


class Tanh(Activation):
    """tanh(x); see `xpnet.functional.tanh_forward`."""

    def __init__(self) -> None:
        super().__init__("tanh")


class Softsign(Activation):
    """x / (1 + abs(x)); see `xpnet.functional.softsign_forward`."""

    def __init__(self) -> None:
        super().__init__("softsign")


class Softplus(Activation):
    """log(1 + exp(x)); see `xpnet.functional.softplus_forward`."""

    def __init__(self) -> None:
        super().__init__("softplus")


class Exponential(Activation):
    """exp(x); see `xpnet.functional.exponential_forward`."""

    def __init__(self) -> None:
        super().__init__("exponential")


class Softmax(Activation):
    """Probabilities along an axis; for training, `xpnet.losses.SoftmaxCrossEntropy` contains it."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__("softmax", axis=axis)


class LogSoftmax(Activation):
    """Logarithms of probabilities along an axis; see `xpnet.functional.log_softmax_forward`."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__("log_softmax", axis=axis)
