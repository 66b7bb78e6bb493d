"""The features of each sample in another shape, as between a dense layer and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from xpnet.backend import Array
from xpnet.errors import ShapeError
from xpnet.functional.checks import check_arrays, check_gradient

__all__ = ["ReshapeCtx", "check_reshape", "reshape_backward", "reshape_forward"]


class ReshapeCtx(NamedTuple):
    """Kept for backward: two shapes, no array."""

    shape: tuple[int, ...]  # of the input
    new_shape: tuple[int, ...]  # of the output


def reshape_forward(x: Array, shape: Sequence[int]) -> tuple[Array, ReshapeCtx]:
    """Return the samples of `x` (N, ...) in another shape; the last axis runs fastest, as in a `flatten_forward`.

    Parameters
    ----------
    x : array (N, ...), float
    shape : sequence of int
        Of one sample, without the batch.

    Returns
    -------
    y : array (N, *shape), the type of `x`
    ctx : ReshapeCtx

    Raises
    ------
    ShapeError
        If `x` has less than two axes or is empty, or a sample has another number of elements than `shape`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import reshape_forward
    >>> reshape_forward(np.ones((2, 48)), (3, 4, 4))[0].shape
    (2, 3, 4, 4)
    """
    xp = check_arrays("reshape", x=x)
    given = tuple(x.shape)
    if len(given) < 2 or 0 in given:
        raise ShapeError("reshape", f"x must have at least 2 axes (N, ...), none empty, got shape {given}")
    new = (given[0], *check_reshape("reshape", given[1:], shape))
    return xp.reshape(x, new), ReshapeCtx(given, new)


def reshape_backward(dy: Array, ctx: ReshapeCtx) -> Array:
    """Return dy in the shape of the input.

    Parameters
    ----------
    dy : array (N, *shape)
    ctx : ReshapeCtx

    Returns
    -------
    dx : array (N, ...)

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import reshape_backward, reshape_forward
    >>> y, ctx = reshape_forward(np.ones((2, 48)), (3, 4, 4))
    >>> reshape_backward(y, ctx).shape
    (2, 48)
    """
    xp = check_gradient("reshape_backward", dy, dy, ctx.new_shape)
    return xp.reshape(dy, ctx.shape)


def check_reshape(operation: str, sample: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """Return the new shape of a sample as a tuple, or refuse one with another number of elements."""
    new = tuple(shape)
    if math.prod(sample) != math.prod(new):
        raise ShapeError(
            operation,
            f"a sample of shape {sample} has {math.prod(sample)} elements, shape {new} takes {math.prod(new)}; "
            "the products of the sizes must be equal",
        )
    return new
