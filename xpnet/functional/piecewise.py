"""Activations in pieces, without an exponential: relu6, hard_sigmoid, hard_swish, softsign."""

from __future__ import annotations

from xpnet.backend import Array, bounded, finfo
from xpnet.functional.activation import ActivationCtx, InputCtx
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels.layout import elementwise

__all__ = [
    "hard_sigmoid_backward",
    "hard_sigmoid_forward",
    "hard_swish_backward",
    "hard_swish_forward",
    "relu6_backward",
    "relu6_forward",
    "softsign_backward",
    "softsign_forward",
]


def relu6_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = x, clipped to 0 and 6.

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
    Sandler et al., *MobileNetV2*, arXiv:1801.04381.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import relu6_forward
    >>> relu6_forward(np.array([-1.0, 2.0, 9.0]))[0]
    array([0., 2., 6.])
    """
    xp = check_arrays("relu6", x=x)
    y = elementwise(xp, lambda a: bounded(xp, a, 0.0, 6.0), x)
    return y, ActivationCtx(y)


def relu6_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy where 0 < y < 6, else 0.

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
    >>> from xpnet.functional import relu6_backward, relu6_forward
    >>> y, ctx = relu6_forward(np.array([-1.0, 2.0, 9.0]))
    >>> relu6_backward(np.array([5.0, 5.0, 5.0]), ctx)
    array([0., 5., 0.])
    """
    xp = check_gradient("relu6_backward", dy, ctx.y, tuple(ctx.y.shape))
    return elementwise(xp, lambda d, y: d * xp.astype((y > 0.0) & (y < 6.0), d.dtype), dy, ctx.y)


def hard_sigmoid_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = 0.2 * x + 0.5, clipped to 0 and 1.

    The slope is that of Theano and Keras 2; torch's hardsigmoid is x / 6 + 0.5, clipped.

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
    Gulcehre et al., *Noisy activation functions*, arXiv:1603.00391.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import hard_sigmoid_forward
    >>> hard_sigmoid_forward(np.array([-3.0, 0.0, 1.0, 3.0]))[0]
    array([0. , 0.5, 0.7, 1. ])
    """
    xp = check_arrays("hard_sigmoid", x=x)

    def hard_sigmoid(a: Array) -> Array:
        y = a * 0.2
        y += 0.5
        return bounded(xp, y, 0.0, 1.0)

    y = elementwise(xp, hard_sigmoid, x)
    return y, ActivationCtx(y)


def hard_sigmoid_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = 0.2 * dy where 0 < y < 1, else 0.

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
    >>> from xpnet.functional import hard_sigmoid_backward, hard_sigmoid_forward
    >>> y, ctx = hard_sigmoid_forward(np.array([-3.0, 0.0, 3.0]))
    >>> hard_sigmoid_backward(np.array([5.0, 5.0, 5.0]), ctx)
    array([0., 1., 0.])
    """
    xp = check_gradient("hard_sigmoid_backward", dy, ctx.y, tuple(ctx.y.shape))

    def gradient(d: Array, y: Array) -> Array:
        factor = xp.astype((y > 0.0) & (y < 1.0), d.dtype)
        factor *= 0.2
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, ctx.y)


def hard_swish_forward(x: Array) -> tuple[Array, InputCtx]:
    """Return y = x * clip(x + 3, 0, 6) / 6.

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
    Howard et al., *Searching for MobileNetV3*, arXiv:1905.02244.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import hard_swish_forward
    >>> hard_swish_forward(np.array([-3.0, 0.0, 1.5, 3.0]))[0]
    array([-0.   ,  0.   ,  1.125,  3.   ])
    """
    xp = check_arrays("hard_swish", x=x)

    def hard_swish(a: Array) -> Array:
        y = bounded(xp, a + 3.0, 0.0, 6.0)
        y /= 6.0
        y *= xp.maximum(a, -3.0)
        return y

    return elementwise(xp, hard_swish, x), InputCtx(x)


def hard_swish_backward(dy: Array, ctx: InputCtx) -> Array:
    """Return dx = dy * (2 * x + 3) / 6 where -3 < x < 3, dy from 3 on, 0 up to -3.

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
    >>> from xpnet.functional import hard_swish_backward, hard_swish_forward
    >>> y, ctx = hard_swish_forward(np.array([-3.0, 0.0, 3.0]))
    >>> hard_swish_backward(np.array([2.0, 2.0, 2.0]), ctx)
    array([0., 1., 2.])
    """
    xp = check_gradient("hard_swish_backward", dy, ctx.x, tuple(ctx.x.shape))

    def gradient(d: Array, x: Array) -> Array:
        factor = bounded(xp, x, -3.0, 3.0)
        inside = xp.astype(xp.abs(factor) < 3.0, d.dtype)
        factor *= inside + 1.0
        factor += 3.0
        factor /= 6.0
        factor *= d
        return factor

    return elementwise(xp, gradient, dy, ctx.x)


def softsign_forward(x: Array) -> tuple[Array, ActivationCtx]:
    """Return y = x / (1 + abs(x)).

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
    Bergstra et al., *Quadratic polynomials learn better image features* (2009).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softsign_forward
    >>> softsign_forward(np.array([-3.0, 0.0, 1.0]))[0]
    array([-0.75,  0.  ,  0.5 ])
    """
    xp = check_arrays("softsign", x=x)
    largest = float(finfo(xp, x.dtype).max)

    def softsign(a: Array) -> Array:
        a = bounded(xp, a, -largest, largest)  # infinity / infinity is no number
        return a / (xp.abs(a) + 1.0)

    y = elementwise(xp, softsign, x)
    return y, ActivationCtx(y)


def softsign_backward(dy: Array, ctx: ActivationCtx) -> Array:
    """Return dx = dy * (1 - abs(y))^2.

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
    >>> from xpnet.functional import softsign_backward, softsign_forward
    >>> y, ctx = softsign_forward(np.array([-3.0, 0.0, 1.0]))
    >>> softsign_backward(np.array([16.0, 1.0, 4.0]), ctx)
    array([1., 1., 1.])
    """
    xp = check_gradient("softsign_backward", dy, ctx.y, tuple(ctx.y.shape))

    def gradient(d: Array, y: Array) -> Array:
        root = 1.0 - xp.abs(y)
        return d * (root * root)

    return elementwise(xp, gradient, dy, ctx.y)
