"""Losses of yes-or-no answers: binary cross entropy and hinge, both on raw scores."""

from __future__ import annotations

import math
from typing import NamedTuple

from xpnet.backend import Array, array_namespace, is_on_host, wide_dtype
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional.loss_checks import (
    check_finite,
    check_range,
    check_scale,
    check_targets,
    check_weights,
    scale_as,
)
from xpnet.kernels import find

__all__ = [
    "BinaryCrossEntropyCtx",
    "HingeCtx",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "hinge_backward",
    "hinge_forward",
]


class BinaryCrossEntropyCtx(NamedTuple):
    """Kept for backward: logits, targets and weights themselves (integer targets and half weights as a float copy)."""

    logits: Array
    t: Array
    positive_weight: Array | None


def binary_cross_entropy_forward(
    logits: Array, t: Array, positive_weight: Array | None = None
) -> tuple[Array, BinaryCrossEntropyCtx]:
    r"""Return the mean over all elements of the cross entropy between sigmoid(logits) and the targets.

    .. math:: L = -\frac1{NK} \sum_{nk} \left( w_k t_{nk} \log\sigma(z_{nk})
        + (1 - t_{nk}) \log(1 - \sigma(z_{nk})) \right)

    Parameters
    ----------
    logits : array (N, ...), float
        Scores z; no sigmoid before.
    t : array, shape of `logits`, of its type or integer, 0 <= t <= 1
        1 is yes, 0 is no; anything between is a probability.
    positive_weight : array (K,), the type of `logits` or, for a half type, also float32, optional
        Weight w of the positive answers, for each of the K on the last axis: above 1 for what is rare.
        The mean is still over all elements, with no regard to the weights.

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : BinaryCrossEntropyCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit or the batch is empty.
    ArgumentError
        If a target is out of range. On a GPU, where looking would stall, the loss becomes NaN instead.
    NonFiniteError
        If the loss is not finite; on a GPU it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import binary_cross_entropy_forward
    >>> loss, ctx = binary_cross_entropy_forward(np.zeros((2, 1)), np.array([[0], [1]]))
    >>> round(float(loss), 6)  # the logarithm of 2
    0.693147
    """
    op = "binary_cross_entropy"
    given = t
    t = check_targets(op, "logits", logits, t)
    xp = array_namespace(logits)
    if positive_weight is not None:
        positive_weight = check_weights(op, logits, "positive_weight", positive_weight)
        if tuple(positive_weight.shape) != (logits.shape[-1],):
            raise ShapeError(
                op,
                f"positive_weight must have shape (K,) = ({logits.shape[-1]},) like the last axis of the logits, "
                f"got {tuple(positive_weight.shape)}",
            )
    checked = check_range(op, t, 0.0, 1.0, "they are 1 for yes and 0 for no, or probabilities")
    loss, t = find("binary_cross_entropy_forward", xp)(logits, t, positive_weight, checked)
    check_finite(op, loss, logits=logits, t=given, positive_weight=positive_weight)
    return loss, BinaryCrossEntropyCtx(logits, t, positive_weight)


def binary_cross_entropy_backward(dy: Array | float, ctx: BinaryCrossEntropyCtx) -> Array:
    """Return d loss / d logits: ((1 - t) * s - w * t * (1 - s)) over the number of elements, s the sigmoid.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : BinaryCrossEntropyCtx

    Returns
    -------
    dlogits : array, shape of the logits

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import binary_cross_entropy_backward, binary_cross_entropy_forward
    >>> loss, ctx = binary_cross_entropy_forward(np.zeros((2, 1)), np.array([[0], [1]]))
    >>> binary_cross_entropy_backward(1.0, ctx)
    array([[ 0.25],
           [-0.25]])
    """
    xp = check_scale("binary_cross_entropy_backward", dy, ctx.logits)
    dy = scale_as(xp, dy, wide_dtype(xp, ctx.logits.dtype))
    return find("binary_cross_entropy_backward", xp)(dy, ctx.logits, ctx.t, ctx.positive_weight)


class HingeCtx(NamedTuple):
    """Kept for backward: scores and targets themselves (integer targets as a float copy)."""

    y: Array
    t: Array


def hinge_forward(y: Array, t: Array) -> tuple[Array, HingeCtx]:
    r"""Return the mean over all elements of the hinge loss of yes-or-no answers.

    .. math:: L = \frac1{NK}\sum \max(0, 1 - t y)

    This is the loss of a support vector machine for two classes, -1 and +1; there is no form of it here
    for more classes than two.

    Parameters
    ----------
    y : array (N, ...), float
        Scores: above 0 is yes.
    t : array, shape of `y`, of its type or integer, each -1 or +1

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : HingeCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    ArgumentError
        If a target is neither -1 nor +1. On a GPU, where looking would stall, the loss becomes NaN instead.
    NonFiniteError
        If the loss is not finite; on a GPU it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Cortes and Vapnik, *Support-vector networks* (1995).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import hinge_forward
    >>> float(hinge_forward(np.array([2.0, 0.5, 3.0]), np.array([1, 1, -1]))[0])  # mean of 0, 0.5 and 4
    1.5
    """
    op = "hinge"
    given = t
    t = _signs(op, check_targets(op, "y", y, t))
    xp = array_namespace(y)
    wide = wide_dtype(xp, y.dtype)
    margins = xp.astype(t, wide, copy=False) * xp.astype(y, wide, copy=False)
    loss = xp.mean(xp.maximum(1.0 - margins, 0.0))
    check_finite(op, loss, y=y, t=given)
    return loss, HingeCtx(y, t)


def hinge_backward(dy: Array | float, ctx: HingeCtx) -> Array:
    """Return d loss / d y: -t where t * y < 1 (else 0) over the number of elements, times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : HingeCtx

    Returns
    -------
    dx : array, shape of y

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import hinge_backward, hinge_forward
    >>> loss, ctx = hinge_forward(np.array([2.0, 0.5]), np.array([1, 1]))
    >>> hinge_backward(1.0, ctx)
    array([-0. , -0.5])
    """
    xp = check_scale("hinge_backward", dy, ctx.y)
    wide = wide_dtype(xp, ctx.y.dtype)
    t = xp.astype(ctx.t, wide, copy=False)
    inside = xp.astype(t * xp.astype(ctx.y, wide, copy=False) < 1.0, wide)
    dx = inside * (scale_as(xp, dy, inside.dtype) * (-1.0 / math.prod(ctx.y.shape)))
    dx *= t
    return xp.astype(dx, ctx.y.dtype, copy=False)


def _signs(op: str, t: Array) -> Array:
    """Refuse targets that are neither -1 nor +1; where looking would stall a device, they become NaN instead."""
    xp = array_namespace(t)
    wrong = (xp.abs(t) != 1.0) & ~xp.isnan(t)  # NaN is reported with the loss
    if not is_on_host(t):
        return xp.astype(xp.where(wrong, math.nan, t), t.dtype, copy=False)
    if bool(xp.any(wrong)):
        low, high = float(xp.min(t)), float(xp.max(t))
        raise ArgumentError(
            op, f"targets must be -1 or +1, got targets from {low:g} to {high:g}; of labels 0 and 1 make 2 * t - 1"
        )
    return t
