"""Activations of the form x times a smooth gate from 0 to 1: silu, gelu, mish.

They are clamped where the gate is 0 or 1 to the last bit, so that no intermediate overflows, and computed
in at least float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, bounded
from xpnet.errors import ArgumentError
from xpnet.functional.activation import InputCtx
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find
from xpnet.kernels.agnostic.activation import logistic, lowest_exponent
from xpnet.kernels.layout import elementwise_wide

__all__ = [
    "APPROXIMATIONS",
    "GELUCtx",
    "gelu_backward",
    "gelu_forward",
    "mish_backward",
    "mish_forward",
    "silu_backward",
    "silu_forward",
]


def silu_forward(x: Array) -> tuple[Array, InputCtx]:
    """Return y = x * sigmoid(x), also known as swish.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : InputCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Elfwing, Uchibe and Doya, arXiv:1702.03118; Ramachandran, Zoph and Le, arXiv:1710.05941.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import silu_forward
    >>> np.round(silu_forward(np.array([-1.0, 0.0, 99.0]))[0], 4)
    array([-0.2689,  0.    , 99.    ])
    """
    xp = check_arrays("silu", x=x)

    def silu(a: Array) -> Array:
        y = logistic(xp, a)
        y *= xp.maximum(a, lowest_exponent(xp, a.dtype))
        return y

    return elementwise_wide(xp, silu, x), InputCtx(x)


def silu_backward(dy: Array, ctx: InputCtx) -> Array:
    """Return dx = dy * s * (1 + x * (1 - s)) with s = sigmoid(x).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : InputCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import silu_backward, silu_forward
    >>> y, ctx = silu_forward(np.array([0.0, 1000.0]))
    >>> silu_backward(np.array([1.0, 1.0]), ctx)
    array([0.5, 1. ])
    """
    xp = check_gradient("silu_backward", dy, ctx.x, tuple(ctx.x.shape))

    def gradient(d: Array, x: Array) -> Array:
        low = lowest_exponent(xp, x.dtype)
        s = logistic(xp, x)
        factor = (1.0 - s) * bounded(xp, x, low, -low)
        factor += 1.0
        factor *= s
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, ctx.x)


APPROXIMATIONS = ("none", "tanh")
FLAT = 40.0  # beyond +-40 the normal density is 0 and its integral 0 or 1, in float64 too
FLAT_TANH = 10.0  # the same for the approximation by tanh
SQRT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
TANH_SCALE, CUBIC = math.sqrt(2.0 / math.pi), 0.044715


class GELUCtx(NamedTuple):
    """Kept for backward: the input itself, nothing new."""

    x: Array
    approximate: str


def gelu_forward(x: Array, *, approximate: str = "none") -> tuple[Array, GELUCtx]:
    """Return y = x * P(X < x) for a standard normal X: x / 2 * (1 + erf(x / sqrt(2))).

    Parameters
    ----------
    x : array of any shape, float
    approximate : {"none", "tanh"}, default "none"
        "tanh": x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), off by up to 5e-4.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : GELUCtx

    Raises
    ------
    ArgumentError
        If the approximation is unknown.
    DTypeError
        If `x` is no float array.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import gelu_forward
    >>> np.round(gelu_forward(np.array([-1.0, 0.0, 1.0, 9.0]))[0], 4)
    array([-0.1587,  0.    ,  0.8413, 9.    ])
    """
    xp = check_arrays("gelu", x=x)
    if approximate not in APPROXIMATIONS:
        raise ArgumentError("gelu", f"approximate must be one of {', '.join(APPROXIMATIONS)}, got {approximate!r}")

    def gelu(a: Array) -> Array:
        y, _ = _gelu_gate(xp, a, approximate)
        y *= xp.maximum(a, -FLAT)
        return y

    return elementwise_wide(xp, gelu, x), GELUCtx(x, approximate)


def gelu_backward(dy: Array, ctx: GELUCtx) -> Array:
    """Return dx = dy * (gate + x * d gate / dx), where y = x * gate.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : GELUCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import gelu_backward, gelu_forward
    >>> y, ctx = gelu_forward(np.array([0.0, 1000.0]))
    >>> gelu_backward(np.array([1.0, 1.0]), ctx)
    array([0.5, 1. ])
    """
    xp = check_gradient("gelu_backward", dy, ctx.x, tuple(ctx.x.shape))

    def gradient(d: Array, x: Array) -> Array:
        factor, slope = _gelu_gate(xp, x, ctx.approximate, with_slope=True)
        slope *= bounded(xp, x, -FLAT, FLAT)
        factor += slope
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, ctx.x)


def _gelu_gate(xp: Any, x: Array, approximate: str, with_slope: bool = False) -> tuple[Array, Any]:
    """Return the gate, from 0 to 1, and if wanted its derivative: two new arrays."""
    slope = None
    if approximate == "tanh":
        a = bounded(xp, x, -FLAT_TANH, FLAT_TANH)
        squares = a * a
        gate = xp.tanh(a * (squares * (TANH_SCALE * CUBIC) + TANH_SCALE))
        if with_slope:  # of (1 + tanh(u)) / 2: (1 - tanh(u)^2) / 2 * du / dx
            slope = (0.5 - 0.5 * gate * gate) * (squares * (3.0 * TANH_SCALE * CUBIC) + TANH_SCALE)
    else:
        a = bounded(xp, x, -FLAT, FLAT)
        gate = find("erf", xp)(a * SQRT_HALF)
        if with_slope:
            slope = xp.exp(a * a * -0.5)
            slope *= DENSITY
    gate += 1.0
    gate *= 0.5
    return gate, slope


MISH_FLAT = 1000.0  # exp(-1000) is 0
MISH_TOP = 20.0  # here the gate is 1 to the last bit, and exp(20)^4 still finite in float32


def _mish_terms(xp: Any, x: Array) -> tuple[Array, Array]:
    """Return e = exp(x) and n = e (e + 2): two new arrays."""
    e = xp.exp(bounded(xp, x, -MISH_FLAT, MISH_TOP))
    return e, e * (e + 2.0)


def mish_forward(x: Array) -> tuple[Array, InputCtx]:
    """Return y = x * tanh(log(1 + exp(x))).

    With e = exp(x) and n = e (e + 2) the gate tanh(log(1 + e)) is n / (n + 2).

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : InputCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Misra, arXiv:1908.08681.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mish_forward
    >>> np.round(mish_forward(np.array([-1.0, 0.0, 1.0, 99.0]))[0], 4)
    array([-0.3034,  0.    ,  0.8651, 99.    ])
    """
    xp = check_arrays("mish", x=x)

    def mish(a: Array) -> Array:
        _, n = _mish_terms(xp, a)
        y = n / (n + 2.0)
        y *= xp.maximum(a, -MISH_FLAT)
        return y

    return elementwise_wide(xp, mish, x), InputCtx(x)


def mish_backward(dy: Array, ctx: InputCtx) -> Array:
    """Return dx = dy * (n / (n + 2) + 4 x e (1 + e) / (n + 2)^2), with e = exp(x) and n = e (e + 2).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : InputCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mish_backward, mish_forward
    >>> y, ctx = mish_forward(np.array([0.0, 1000.0]))
    >>> mish_backward(np.array([1.0, 1.0]), ctx)
    array([0.6, 1. ])
    """
    xp = check_gradient("mish_backward", dy, ctx.x, tuple(ctx.x.shape))

    def gradient(d: Array, x: Array) -> Array:
        e, n = _mish_terms(xp, x)
        root = 2.0 / (n + 2.0)
        factor = root * root
        factor *= e * (1.0 + e)
        factor *= bounded(xp, x, -MISH_FLAT, MISH_TOP)
        factor += 0.5 * n * root
        factor *= d
        return factor

    return elementwise_wide(xp, gradient, dy, ctx.x)
