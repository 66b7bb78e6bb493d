"""Inverted dropout with a mask that is a function of seed, stream and step: nothing kept, same everywhere."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ArgumentError
from xpnet.functional.checks import check_arrays, check_gradient, is_number
from xpnet.kernels import find

__all__ = ["DropoutCtx", "dropout_backward", "dropout_forward"]


class DropoutCtx(NamedTuple):
    """Kept for backward: one byte per element."""

    mask: Array | None  # bool, shape of x; None if nothing is dropped
    shape: tuple[int, ...]
    scale: float  # 1 / (1 - rate)


def dropout_forward(
    x: Array, *, rate: float = 0.5, seed: int = 0, stream: int = 0, step: int = 0, train: bool = True
) -> tuple[Array, DropoutCtx]:
    """Set a random fraction `rate` of the elements to zero and scale the others by 1 / (1 - rate).

    The mask depends on (seed, stream, step) and the shape alone: it is the same on every backend.

    Parameters
    ----------
    x : array of any shape, float
    rate : float, 0 <= rate < 1, default 0.5
        Probability that an element is dropped.
    seed, stream, step : int, default 0
        Of the run, of the layer, and of the forward pass; change `step` from call to call.
    train : bool, default True
        False returns `x` itself: because training scales, inference has nothing to do.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : DropoutCtx

    Raises
    ------
    ArgumentError
        If rate is not in [0, 1), or seed, stream or step is no integer from 0 to 2**64 - 1.
    DTypeError
        If `x` is no float array.

    References
    ----------
    Srivastava et al., *Dropout* (2014); Saito, *Deep Learning from Scratch* (2016), section 6.4.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import dropout_forward
    >>> y, ctx = dropout_forward(np.ones(8), rate=0.5, seed=1)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    xp = check_arrays("dropout", x=x)
    if not is_number(rate) or not 0.0 <= rate < 1.0:
        raise ArgumentError("dropout", f"rate must be at least 0 and below 1, got {rate!r}")
    # of an array, which only a recorded step gives, looking would wait for the device
    if not all(isinstance(n, type(x)) or (hasattr(n, "__index__") and 0 <= n < 2**64) for n in (seed, stream, step)):
        raise ArgumentError(
            "dropout", f"seed, stream and step must be integers from 0 to 2**64 - 1, got {(seed, stream, step)}"
        )
    shape = tuple(x.shape)
    if not train or rate == 0.0:
        return x, DropoutCtx(None, shape, 1.0)
    scale = 1.0 / (1.0 - rate)
    y, mask = find("dropout_forward", xp)(x, rate, seed, stream, step, scale)
    return y, DropoutCtx(mask, shape, scale)


def dropout_backward(dy: Array, ctx: DropoutCtx) -> Array:
    """Return dx = dy * mask / (1 - rate).

    Parameters
    ----------
    dy : array, shape of y
        Not changed.
    ctx : DropoutCtx

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
    >>> from xpnet.functional import dropout_backward, dropout_forward
    >>> y, ctx = dropout_forward(np.ones(8), rate=0.5, seed=1)
    >>> bool(np.all(dropout_backward(np.ones(8), ctx) == y))
    True
    """
    xp = check_gradient("dropout_backward", dy, dy, ctx.shape)
    if ctx.mask is None:
        return dy
    return find("dropout_backward", xp)(dy, ctx.mask, ctx.scale)
