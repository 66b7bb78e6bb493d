"""Optimizer updates of a flat array of weights, in place: one pass for a whole model.

`w` weights, `g` gradient (not changed), further arrays the optimizer's state; all of one shape.
"""

from __future__ import annotations

from xpnet.backend import Array, array_namespace
from xpnet.kernels.table import register

__all__ = [
    "adagrad_update",
    "adam_update",
    "momentum_update",
    "nesterov_update",
    "rmsprop_update",
    "sgd_update",
]


@register("agnostic", "sgd_update")
def sgd_update(w: Array, g: Array, *, lr: float) -> None:
    """w -= lr g."""
    w -= lr * g


@register("agnostic", "momentum_update")
def momentum_update(w: Array, g: Array, v: Array, *, lr: float, momentum: float) -> None:
    """v = momentum v - lr g;  w += v."""
    v *= momentum
    v -= lr * g
    w += v


@register("agnostic", "nesterov_update")
def nesterov_update(w: Array, g: Array, v: Array, *, lr: float, momentum: float) -> None:
    """v = momentum v - lr g;  w += momentum v - lr g."""
    step = lr * g
    v *= momentum
    v -= step
    w -= step
    w += momentum * v


@register("agnostic", "adagrad_update")
def adagrad_update(w: Array, g: Array, h: Array, *, lr: float, eps: float) -> None:
    """h += g^2;  w -= lr g / (sqrt(h) + eps)."""
    xp = array_namespace(w)
    h += g * g
    w -= lr * g / (xp.sqrt(h) + eps)


@register("agnostic", "rmsprop_update")
def rmsprop_update(w: Array, g: Array, h: Array, *, lr: float, decay: float, eps: float) -> None:
    """h = decay h + (1 - decay) g^2;  w -= lr g / (sqrt(h) + eps)."""
    xp = array_namespace(w)
    h *= decay
    h += (1.0 - decay) * (g * g)
    w -= lr * g / (xp.sqrt(h) + eps)


@register("agnostic", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    xp = array_namespace(w)
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * (g * g)
    root = xp.sqrt(v)
    root *= (1.0 - beta2**step) ** -0.5
    root += eps
    w -= (lr / (1.0 - beta1**step)) * m / root
