"""Activations in pieces, without an exponential: relu6, hard_sigmoid, hard_swish, softsign."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.functional.activation import ActivationCtx, InputCtx
from xpnet.functional.checks import check_arrays, check_gradient
from xpnet.kernels import find

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
    y = find("relu6_forward", xp)(x)
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
    return find("relu6_backward", xp)(dy, ctx.y)


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
    y = find("hard_sigmoid_forward", xp)(x)
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
    return find("hard_sigmoid_backward", xp)(dy, ctx.y)


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
    return find("hard_swish_forward", xp)(x), InputCtx(x)


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
    return find("hard_swish_backward", xp)(dy, ctx.x)


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
    y = find("softsign_forward", xp)(x)
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
    return find("softsign_backward", xp)(dy, ctx.y)
