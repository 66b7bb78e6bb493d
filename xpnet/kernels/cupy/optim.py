"""Optimizer updates for CuPy: the flat arrays of a whole model in one launch."""

from __future__ import annotations

import cupy

from xpnet.backend import Array
from xpnet.kernels.agnostic import optim
from xpnet.kernels.cupy.launch import each_element, launch
from xpnet.kernels.table import register

__all__ = [
    "adadelta_update",
    "adagrad_update",
    "adam_update",
    "amsgrad_update",
    "decay_gradient",
    "decay_weights",
    "lion_update",
    "momentum_update",
    "narrow_weights",
    "nesterov_update",
    "rates_of",
    "rmsprop_update",
    "sgd_update",
    "widen_weights",
]


def rates_of(lr: float | Array, w: Array) -> tuple[Array | None, float]:
    """Return the learning rates of all weights or None, and a factor of them, or the only rate."""
    if not isinstance(lr, cupy.ndarray):
        return None, float(lr)
    return cupy.ascontiguousarray(cupy.broadcast_to(lr, w.shape), dtype=w.dtype), 1.0


def _update(name: str, arrays: tuple[Array, ...], lr: float | Array, *numbers: float, factor: float = 1.0) -> bool:
    """Launch the kernel `name`; False, and nothing done, if the arrays do not lie as it needs them."""
    w = arrays[0]
    if not all(a.flags.c_contiguous and a.dtype == w.dtype for a in arrays):
        return False
    rates, rate = rates_of(lr, w)
    if w.size:
        launch("optim", name, w, w.size, *arrays, rates, rate * factor, *map(float, numbers), w.size)
    return True


@register("cupy", "decay_weights")
def decay_weights(w: Array, decay: Array, *, lr: float | Array) -> None:
    """w -= lr decay w, before a step."""
    if not _update("decay_weights", (w, decay), lr):
        optim.decay_weights(w, decay, lr=lr)


@register("cupy", "decay_gradient")
def decay_gradient(g: Array, w: Array, decay: Array) -> Array:
    """Return g + decay w."""
    if not all(a.dtype == w.dtype for a in (g, decay)):
        return optim.decay_gradient(g, w, decay)
    return each_element("optim", "decay_gradient", g, w, decay)


@register("cupy", "sgd_update")
def sgd_update(w: Array, g: Array, *, lr: float | Array) -> None:
    """w -= lr g."""
    if not _update("sgd", (w, g), lr):
        optim.sgd_update(w, g, lr=lr)


@register("cupy", "momentum_update")
def momentum_update(w: Array, g: Array, v: Array, *, lr: float | Array, momentum: float) -> None:
    """v = momentum v - lr g;  w += v."""
    if not _update("momentum", (w, g, v), lr, momentum):
        optim.momentum_update(w, g, v, lr=lr, momentum=momentum)


@register("cupy", "nesterov_update")
def nesterov_update(w: Array, g: Array, v: Array, *, lr: float | Array, momentum: float) -> None:
    """v = momentum v - lr g;  w += momentum v - lr g."""
    if not _update("nesterov", (w, g, v), lr, momentum):
        optim.nesterov_update(w, g, v, lr=lr, momentum=momentum)


@register("cupy", "adagrad_update")
def adagrad_update(w: Array, g: Array, h: Array, *, lr: float | Array, eps: float) -> None:
    """h += g^2;  w -= lr g / (sqrt(h) + eps)."""
    if not _update("adagrad", (w, g, h), lr, eps):
        optim.adagrad_update(w, g, h, lr=lr, eps=eps)


@register("cupy", "rmsprop_update")
def rmsprop_update(w: Array, g: Array, h: Array, *, lr: float | Array, decay: float, eps: float) -> None:
    """h = decay h + (1 - decay) g^2;  w -= lr g / (sqrt(h) + eps)."""
    if not _update("rmsprop", (w, g, h), lr, decay, eps):
        optim.rmsprop_update(w, g, h, lr=lr, decay=decay, eps=eps)


@register("cupy", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float | Array, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    root = (1.0 - beta2**step) ** -0.5
    if not _update("adam", (w, g, m, v), lr, beta1, beta2, eps, root, factor=1.0 / (1.0 - beta1**step)):
        optim.adam_update(w, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)


@register("cupy", "amsgrad_update")
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
    root = (1.0 - beta2**step) ** -0.5
    if not _update("amsgrad", (w, g, m, v, top), lr, beta1, beta2, eps, root, factor=1.0 / (1.0 - beta1**step)):
        optim.amsgrad_update(w, g, m, v, top, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)


@register("cupy", "adadelta_update")
def adadelta_update(w: Array, g: Array, h: Array, u: Array, *, lr: float | Array, decay: float, eps: float) -> None:
    """h = mean of g^2;  d = sqrt(u + eps) / sqrt(h + eps) g;  w -= lr d;  u = mean of d^2."""
    if not _update("adadelta", (w, g, h, u), lr, decay, eps):
        optim.adadelta_update(w, g, h, u, lr=lr, decay=decay, eps=eps)


@register("cupy", "lion_update")
def lion_update(w: Array, g: Array, m: Array, *, lr: float | Array, beta1: float, beta2: float) -> None:
    """w -= lr sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g."""
    if not _update("lion", (w, g, m), lr, beta1, beta2):
        optim.lion_update(w, g, m, lr=lr, beta1=beta1, beta2=beta2)


@register("cupy", "widen_weights")
def widen_weights(w: Array, g: Array, master: Array, *, factor: float) -> Array:
    """Where w (16 bits) is not the master (float32) rounded, the master becomes w; return factor g in float32."""
    if not all(a.flags.c_contiguous for a in (w, g, master)):
        return optim.widen_weights(w, g, master, factor=factor)
    wide = cupy.empty(w.shape, master.dtype)
    if w.size:
        launch("optim", "widen", w, w.size, w, g, master, wide, float(factor), w.size)
    return wide


@register("cupy", "narrow_weights")
def narrow_weights(w: Array, master: Array) -> None:
    """w = master, rounded."""
    if not (w.flags.c_contiguous and master.flags.c_contiguous):
        optim.narrow_weights(w, master)
    elif w.size:
        launch("optim", "narrow", w, w.size, w, master, w.size)
