"""Losses as pairs of functions: softmax cross entropy and mean squared error."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, array_namespace, device_of, is_on_host, wide_dtype
from xpnet.errors import (
    ArgumentError,
    ArrayMismatchError,
    DTypeError,
    NonFiniteError,
    OperationError,
    ShapeError,
)
from xpnet.functional.checks import check_arrays, check_ndim, is_integer
from xpnet.kernels import find

__all__ = [
    "MeanSquaredErrorCtx",
    "SoftmaxCrossEntropyCtx",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]


class SoftmaxCrossEntropyCtx(NamedTuple):
    """Kept for backward: softmax and targets, two arrays (N, K) in at least float32."""

    p: Array
    target: Array
    dtype: Any  # of the logits


def softmax_cross_entropy_forward(
    logits: Array, t: Array, *, label_smoothing: float = 0.0
) -> tuple[Array, SoftmaxCrossEntropyCtx]:
    r"""Return the mean over the batch of the cross entropy between softmax(logits) and the labels.

    .. math:: L = -\frac1N \sum_n \sum_k t_{nk} \log \mathrm{softmax}(z_n)_k

    Parameters
    ----------
    logits : array (N, K), float
        Unnormalised scores z; no softmax before.
    t : array (N,), integer labels 0 <= t < K, or (N, K), the type of `logits`, one-hot or probabilities
    label_smoothing : float, 0 <= label_smoothing < 1, default 0
        Mix the targets with the uniform distribution (arXiv:1512.00567).

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : SoftmaxCrossEntropyCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit or the batch is empty.
    ArgumentError
        If a label is out of range. On a GPU, where looking would stall, the loss becomes NaN instead.
    NonFiniteError
        If the logits hold NaN, or infinities that leave no finite loss. On a GPU the loss is NaN.
    DTypeError, ArrayMismatchError
        If the arrays are of the wrong type, or differ in library or device.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), sections 4.2 and 5.6 (there `SoftmaxWithLoss`).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softmax_cross_entropy_forward
    >>> loss, ctx = softmax_cross_entropy_forward(np.zeros((2, 10)), np.array([3, 7]))
    >>> round(float(loss), 6)  # the logarithm of 10
    2.302585
    """
    op = "softmax_cross_entropy"
    xp = check_arrays(op, logits=logits)
    check_ndim(op, "logits", logits, 2, "(N, K)")
    if not 0.0 <= label_smoothing < 1.0:
        raise ArgumentError(op, f"label_smoothing must be at least 0 and below 1, got {label_smoothing!r}")
    target = _targets(op, xp, logits, t)
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / logits.shape[1]
    loss, p = find("softmax_cross_entropy_forward", xp)(logits, target)
    _check_finite(op, loss, logits=logits)
    return loss, SoftmaxCrossEntropyCtx(p, target, logits.dtype)


def softmax_cross_entropy_backward(dy: Array | float, ctx: SoftmaxCrossEntropyCtx) -> Array:
    """Return d loss / d logits = dy * (softmax - target) / N.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : SoftmaxCrossEntropyCtx

    Returns
    -------
    dlogits : array (N, K)

    Raises
    ------
    ShapeError
        If dy is an array with axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import softmax_cross_entropy_backward, softmax_cross_entropy_forward
    >>> loss, ctx = softmax_cross_entropy_forward(np.zeros((1, 2)), np.array([0]))
    >>> softmax_cross_entropy_backward(1.0, ctx)
    array([[-0.5,  0.5]])
    """
    xp = _check_scale("softmax_cross_entropy_backward", dy, ctx.p)
    dlogits = find("softmax_cross_entropy_backward", xp)(dy, ctx.p, ctx.target)
    return xp.astype(dlogits, ctx.dtype, copy=False)


def _targets(op: str, xp: Any, logits: Array, t: Array) -> Array:
    """Return the targets as (N, K) in at least float32; an invalid label gives a row of NaN on a GPU."""
    N, K = logits.shape
    _check_place(op, "logits", logits, "t", t)
    wide = wide_dtype(xp, logits.dtype)
    if len(t.shape) == 2:
        if tuple(t.shape) != (N, K):
            raise ShapeError(
                op,
                f"t must have shape (N,) = ({N},) or (N, K) = {(N, K)} like the logits, got {tuple(t.shape)}",
            )
        if is_integer(xp, t):  # one-hot rows of integers, as in the book
            return xp.astype(t, wide)
        check_arrays(op, logits=logits, t=t)
        return xp.astype(t, wide, copy=False)
    if tuple(t.shape) != (N,):
        raise ShapeError(
            op,
            f"t must have shape (N,) = ({N},) or (N, K) = {(N, K)} to go with the logits, got {tuple(t.shape)}",
        )
    if not is_integer(xp, t):
        raise DTypeError(op, f"labels t of shape (N,) must be integers, got {t.dtype}; give classes as 0..{K - 1}")
    t = xp.astype(t, xp.int64, copy=False)  # uint8 would count 300 classes as 0..255, 0..43
    if is_on_host(t):
        low, high = int(xp.min(t)), int(xp.max(t))
        if low < 0 or high >= K:
            raise ArgumentError(
                op,
                f"labels must be from 0 to {K - 1} for {K} classes, got labels from {low} to {high}; "
                "check the number of outputs of the model, or renumber the labels",
            )
    classes = xp.arange(K, dtype=xp.int64, device=device_of(t))
    target = xp.astype(t[:, None] == classes[None, :], wide)
    if not is_on_host(t):
        target /= xp.sum(target, axis=1, keepdims=True)  # 1 for a valid label, 0/0 = NaN for others
    return target


def _check_place(op: str, like_name: str, like: Array, name: str, x: Array) -> Any:
    """Refuse `x` of another library or device than `like`, whatever its type; return the namespace."""
    try:
        xp = array_namespace(like, x)
    except OperationError as error:
        error.operation, error.detail = op, f"{name}: {error.detail}"
        raise
    if device_of(x) != device_of(like):
        raise ArrayMismatchError(
            op,
            f"{like_name} on {device_of(like)} but {name} on {device_of(x)}; move {name} with xpnet.backend.asarray",
        )
    return xp


def _check_scale(op: str, dy: Array | float, like: Array) -> Any:
    """Refuse a gradient of the loss that is neither a number nor a 0-d array; return the namespace."""
    if isinstance(dy, (int, float)):
        return array_namespace(like)
    xp = _check_place(op, "predictions", like, "dy", dy)
    if len(dy.shape):
        raise ShapeError(op, f"dy has shape {tuple(dy.shape)} but the loss is one number; give a float or a 0-d array")
    return xp


def _check_finite(op: str, loss: Array, **arrays: Array) -> None:
    """Where reading costs nothing, turn a loss that is not finite into an error that says where it comes from."""
    if not is_on_host(loss) or math.isfinite(float(loss)):
        return
    for name, x in arrays.items():
        xp = array_namespace(x)
        bad = ~xp.isfinite(x)
        count = int(xp.sum(xp.astype(bad, xp.int64)))
        if count:
            row = int(xp.argmax(xp.astype(xp.any(xp.reshape(bad, (x.shape[0], -1)), axis=1), xp.int64)))
            raise NonFiniteError(
                op,
                f"{name} holds {count} values that are NaN or infinite, first in row {row}, so the loss is "
                f"{float(loss)}; check the input for NaN, or lower the learning rate",
            )
    raise NonFiniteError(op, f"the loss is {float(loss)} although its inputs are finite; scale the inputs down")


class MeanSquaredErrorCtx(NamedTuple):
    """Kept for backward: the difference y - t, an array of the shape of y."""

    difference: Array
    factor: float  # d loss / d y = factor * difference


REDUCTIONS = ("mean", "half_sum")


def mean_squared_error_forward(y: Array, t: Array, *, reduction: str = "mean") -> tuple[Array, MeanSquaredErrorCtx]:
    r"""Return the squared error of predictions.

    ``"mean"`` is the mean over all elements, :math:`\frac1{NK}\sum (y - t)^2`; ``"half_sum"`` the
    book's, :math:`\frac1N \sum_n \frac12 \sum_k (y_{nk} - t_{nk})^2`.

    Parameters
    ----------
    y : array (N, ...), float
        Predictions.
    t : array, shape and type of `y`
        Targets.
    reduction : {"mean", "half_sum"}, default "mean"

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : MeanSquaredErrorCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    ArgumentError
        If the reduction is unknown.
    NonFiniteError
        If the loss is not finite; on a GPU, where looking would stall, it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import mean_squared_error_forward
    >>> float(mean_squared_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))[0])
    2.0
    """
    op = "mean_squared_error"
    xp = check_arrays(op, y=y, t=t)
    if tuple(y.shape) != tuple(t.shape):
        raise ShapeError(op, f"y has shape {tuple(y.shape)} but t has {tuple(t.shape)}; they must be equal")
    if len(y.shape) < 1 or 0 in y.shape:
        raise ShapeError(op, f"the batch is empty: y has shape {tuple(y.shape)}")
    if reduction not in REDUCTIONS:
        raise ArgumentError(op, f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    difference = y - t
    wide = xp.astype(difference, wide_dtype(xp, y.dtype), copy=False)
    factor = 2.0 / math.prod(y.shape) if reduction == "mean" else 1.0 / y.shape[0]
    loss = xp.sum(wide * wide) * (0.5 * factor)
    _check_finite(op, loss, y=y, t=t)
    return loss, MeanSquaredErrorCtx(difference, factor)


def mean_squared_error_backward(dy: Array | float, ctx: MeanSquaredErrorCtx) -> Array:
    """Return d loss / d y: ``2 (y - t) / (N K)``, or ``(y - t) / N`` with "half_sum", times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : MeanSquaredErrorCtx

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
    >>> from xpnet.functional import mean_squared_error_backward, mean_squared_error_forward
    >>> loss, ctx = mean_squared_error_forward(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    >>> mean_squared_error_backward(1.0, ctx)
    array([[ 0., -2.]])
    """
    xp = _check_scale("mean_squared_error_backward", dy, ctx.difference)
    if isinstance(dy, (int, float)):
        return ctx.difference * (dy * ctx.factor)
    return ctx.difference * (xp.astype(dy, ctx.difference.dtype, copy=False) * ctx.factor)
