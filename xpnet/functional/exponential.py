"""Activations by the exponential: exponential, softplus, elu, selu."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.functional.activation import ActivationCtx
from xpnet.functional.checks import check_arrays, check_gradient, check_not_negative
from xpnet.kernels import find
from xpnet.kernels.layout import elementwise

__all__ = [
    "ELUCtx",
    "elu_backward",
    "elu_forward",
    "exponential_backward",
    "exponential_forward",
    "selu_backward",
    "selu_forward",
    "softplus_backward",
    "softplus_forward",
]

# section 2 of arXiv:1706.02515: outputs of mean 0 and variance 1 for inputs of mean 0 and variance 1
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def exponential_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = exp(x); infinity, without a warning, where that is beyond the float type.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import exponential_forward
    >>> exponential_forward(np.array([-1000.0, 0.0, 1000.0]))[0]
    array([ 0.,  1., inf])
    """
    xp = check_arrays("exponential", x=x)
    y = find("exponential_forward", xp)(x)
    return y, ActivationCtx(y)


def exponential_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy * y.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import exponential_backward, exponential_forward
    >>> y, ctx = exponential_forward(np.array([0.0]))
    >>> exponential_backward(np.array([2.0]), ctx)
    array([2.])
    """
    xp = check_gradient("exponential_backward", dy, ctx.y, tuple(ctx.y.shape))
    return elementwise(xp, lambda d, y: d * y, dy, ctx.y)


def softplus_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = log(1 + exp(x)), without overflow at any x.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Dugas et al., *Incorporating second-order functional knowledge for better option pricing* (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softplus_forward
    >>> softplus_forward(np.array([-1000.0, 1000.0]))[0]
    array([   0., 1000.])
    """
    xp = check_arrays("softplus", x=x)
    y = find("softplus_forward", xp)(x)
    return y, ActivationCtx(y)


def softplus_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy * sigmoid(x) = dy * (1 - exp(-y)).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import softplus_backward, softplus_forward
    >>> y, ctx = softplus_forward(np.array([0.0, 1000.0]))
    >>> softplus_backward(np.array([1.0, 1.0]), ctx)
    array([0.5, 1. ])
    """
    xp = check_gradient("softplus_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("softplus_backward", xp)(dy, ctx.y)


class ELUCtx(NamedTuple):
    """Kept for backward: the output itself, nothing new."""

    y: Array
    alpha: float


def elu_forward(x: Array, *, alpha: float = 1.0) -> tuple[Array, ELUCtx]:
    """Return y = x where x > 0, else alpha * (exp(x) - 1).

    Parameters
    ----------
    x : array of any shape, float
    alpha : float, at least 0, default 1
        The output goes down to -alpha.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ELUCtx

    Raises
    ------
    ArgumentError
        If alpha is negative or not finite.
    DTypeError
        If `x` is no float array.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, arXiv:1511.07289.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import elu_forward
    >>> elu_forward(np.array([-1000.0, 0.0, 2.0]))[0]
    array([-1.,  0.,  2.])
    """
    xp = check_arrays("elu", x=x)
    check_not_negative("elu", alpha=alpha)
    alpha = float(alpha)
    y = find("elu_forward", xp)(x, 1.0, alpha)
    return y, ELUCtx(y, alpha)


def elu_backward(dy: Array, ctx: ELUCtx) -> Array:
    """Return dx = dy where y > 0, else (y + alpha) * dy.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ELUCtx

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
    >>> from xpnet.functional import elu_backward, elu_forward
    >>> y, ctx = elu_forward(np.array([-1000.0, 0.0, 2.0]))
    >>> elu_backward(np.array([5.0, 5.0, 5.0]), ctx)
    array([0., 5., 5.])
    """
    xp = check_gradient("elu_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("elu_backward", xp)(dy, ctx.y, 1.0, ctx.alpha)


def selu_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = scale * x where x > 0, else scale * alpha * (exp(x) - 1), with the paper's constants.

    scale = 1.0507009873554805, alpha = 1.6732632423543772.

    Parameters
    ----------
    x : array of any shape, float

    Returns
    -------
    y : array, shape and type of `x`
    ctx : ActivationCtx

    Raises
    ------
    DTypeError
        If `x` is no float array.

    References
    ----------
    Klambauer et al., *Self-normalizing neural networks*, arXiv:1706.02515.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import selu_forward
    >>> np.round(selu_forward(np.array([-1000.0, 0.0, 2.0]))[0], 4)
    array([-1.7581,  0.    ,  2.1014])
    """
    xp = check_arrays("selu", x=x)
    y = find("elu_forward", xp)(x, SELU_SCALE, SELU_SCALE * SELU_ALPHA)
    return y, ActivationCtx(y)


def selu_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = scale * dy where y > 0, else (y + scale * alpha) * dy.

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : ActivationCtx

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
    >>> from xpnet.functional import selu_backward, selu_forward
    >>> y, ctx = selu_forward(np.array([-1000.0, 2.0]))
    >>> np.round(selu_backward(np.array([1.0, 1.0]), ctx), 4)
    array([0.    , 1.0507])
    """
    xp = check_gradient("selu_backward", dy, ctx.y, tuple(ctx.y.shape))
    return find("elu_backward", xp)(dy, ctx.y, SELU_SCALE, SELU_SCALE * SELU_ALPHA)
