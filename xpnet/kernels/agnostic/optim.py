"""Optimizer updates of a flat array of weights, in place: one pass for a whole model.

`w` weights, `g` gradient (not changed), further arrays the optimizer's state; all of one shape. `lr` is
a number, or an array of that shape where parameters have rates of their own.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, array_namespace, sign, wide_dtype
from xpnet.kernels.table import register

__all__ = [
    "adadelta_update",
    "adagrad_update",
    "adam_update",
    "amsgrad_update",
    "decay_gradient",
    "decay_weights",
    "lamb_update",
    "lion_update",
    "momentum_update",
    "narrow_weights",
    "nesterov_update",
    "rmsprop_update",
    "sgd_update",
    "widen_weights",
]


def _average(mean: Array, new: Array, decay: float) -> None:
    """mean = decay mean + (1 - decay) new."""
    mean *= decay
    mean += (1.0 - decay) * new


def _root(xp: Any, v: Array, beta2: float, eps: float, step: int) -> Array:
    """Return sqrt(v^) + eps, ^ the bias-corrected mean."""
    root = xp.sqrt(v)
    root *= (1.0 - beta2**step) ** -0.5
    root += eps
    return root


@register("agnostic", "decay_weights")
def decay_weights(w: Array, decay: Array, *, lr: float | Array) -> None:
    """w -= lr decay w, before a step."""
    w -= lr * (decay * w)


@register("agnostic", "decay_gradient")
def decay_gradient(g: Array, w: Array, decay: Array) -> Array:
    """Return g + decay w."""
    return g + decay * w


@register("agnostic", "sgd_update")
def sgd_update(w: Array, g: Array, *, lr: float | Array) -> None:
    """w -= lr g."""
    w -= lr * g


@register("agnostic", "momentum_update")
def momentum_update(w: Array, g: Array, v: Array, *, lr: float | Array, momentum: float) -> None:
    """v = momentum v - lr g;  w += v."""
    v *= momentum
    v -= lr * g
    w += v


@register("agnostic", "nesterov_update")
def nesterov_update(w: Array, g: Array, v: Array, *, lr: float | Array, momentum: float) -> None:
    """v = momentum v - lr g;  w += momentum v - lr g."""
    step = lr * g
    v *= momentum
    v -= step
    w -= step
    w += momentum * v


@register("agnostic", "adagrad_update")
def adagrad_update(w: Array, g: Array, h: Array, *, lr: float | Array, eps: float) -> None:
    """h += g^2;  w -= lr g / (sqrt(h) + eps)."""
    xp = array_namespace(w)
    h += g * g
    w -= lr * g / (xp.sqrt(h) + eps)


@register("agnostic", "rmsprop_update")
def rmsprop_update(w: Array, g: Array, h: Array, *, lr: float | Array, decay: float, eps: float) -> None:
    """h = decay h + (1 - decay) g^2;  w -= lr g / (sqrt(h) + eps)."""
    xp = array_namespace(w)
    _average(h, g * g, decay)
    w -= lr * g / (xp.sqrt(h) + eps)


@register("agnostic", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float | Array, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    xp = array_namespace(w)
    _average(m, g, beta1)
    _average(v, g * g, beta2)
    w -= (lr / (1.0 - beta1**step)) * m / _root(xp, v, beta2, eps, step)


@register("agnostic", "amsgrad_update")
def amsgrad_update(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    top: Array,
    *,
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    """As adam_update, with top = max(top, v) in place of v."""
    xp = array_namespace(w)
    _average(m, g, beta1)
    _average(v, g * g, beta2)
    top[...] = xp.maximum(top, v)
    w -= (lr / (1.0 - beta1**step)) * m / _root(xp, top, beta2, eps, step)


@register("agnostic", "adadelta_update")
def adadelta_update(w: Array, g: Array, h: Array, u: Array, *, lr: float | Array, decay: float, eps: float) -> None:
    """h = mean of g^2;  d = sqrt(u + eps) / sqrt(h + eps) g;  w -= lr d;  u = mean of d^2."""
    xp = array_namespace(w)
    _average(h, g * g, decay)
    d = xp.sqrt(u + eps)
    d /= xp.sqrt(h + eps)
    d *= g
    w -= lr * d
    _average(u, d * d, decay)


@register("agnostic", "lion_update")
def lion_update(w: Array, g: Array, m: Array, *, lr: float | Array, beta1: float, beta2: float) -> None:
    """w -= lr sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g."""
    xp = array_namespace(w)
    w -= lr * sign(xp, beta1 * m + (1.0 - beta1) * g)
    _average(m, g, beta2)


@register("agnostic", "lamb_update")
def lamb_update(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    decay: Array | None,
    parts: list[Any],
) -> None:
    """u = m^ / (sqrt(v^) + eps) + decay w;  w -= lr |w| / |u| u, the norms taken over each of `parts`."""
    xp = array_namespace(w)
    _average(m, g, beta1)
    _average(v, g * g, beta2)
    u = m / _root(xp, v, beta2, eps, step)
    u *= 1.0 / (1.0 - beta1**step)
    if decay is not None:
        u += decay * w
    for part in parts:
        of_w, of_u = _norm(xp, w[part]), _norm(xp, u[part])
        ratio = of_w / xp.where(of_u > 0.0, of_u, 1.0)  # stays on the device
        ratio = xp.where((of_w > 0.0) & (of_u > 0.0), ratio, 1.0)
        u[part] *= xp.astype(ratio, u.dtype, copy=False)
    w -= lr * u


def _norm(xp: Any, a: Array) -> Array:
    """Return the 2-norm of all elements, every axis kept with length 1."""
    wide = xp.astype(a, wide_dtype(xp, a.dtype), copy=False)
    return xp.sqrt(xp.sum(wide * wide, keepdims=True))


@register("agnostic", "widen_weights")
def widen_weights(w: Array, g: Array, master: Array, *, factor: float) -> Array:
    """Where w (16 bits) is not the master (float32) rounded, the master becomes w; return factor g in float32."""
    xp = array_namespace(w)
    unchanged = xp.astype(master, w.dtype) == w
    master[...] = xp.where(unchanged, master, xp.astype(w, master.dtype))
    wide = xp.astype(g, master.dtype)
    wide *= factor
    return wide


@register("agnostic", "narrow_weights")
def narrow_weights(w: Array, master: Array) -> None:
    """w = master, rounded."""
    w[...] = array_namespace(w).astype(master, w.dtype)
