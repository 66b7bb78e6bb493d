"""Activations of the form x times a smooth gate from 0 to 1: silu, gelu, mish."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional.activation import InputCtx
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find

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

    return find("silu_forward", xp)(x), InputCtx(x)


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

    return find("silu_backward", xp)(dy, ctx.x)


APPROXIMATIONS = ("none", "tanh")


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

    return find("gelu_forward", xp)(x, approximate), GELUCtx(x, approximate)


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

    return find("gelu_backward", xp)(dy, ctx.x, ctx.approximate)


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

    return find("mish_forward", xp)(x), InputCtx(x)


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

    return find("mish_backward", xp)(dy, ctx.x)
