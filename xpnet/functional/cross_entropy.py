"""Cross entropy of classes, softmax_cross_entropy, and of distributions, kl_divergence."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnet.backend import Array, is_on_host, to_numpy, wide_dtype
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional.checks import check_arrays, check_ndim, is_integer
from xpnet.functional.loss_checks import (
    check_finite,
    check_place,
    check_range,
    check_same_shape,
    check_scale,
    check_weights,
    scale_as,
)
from xpnet.kernels import find
from xpnet.kernels.agnostic.element_loss import nan_outside

__all__ = [
    "KLDivergenceCtx",
    "SoftmaxCrossEntropyCtx",
    "kl_divergence_backward",
    "kl_divergence_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]


class SoftmaxCrossEntropyCtx(NamedTuple):
    """Kept for backward: softmax and weighted targets, two arrays (N, K) in at least float32."""

    p: Array
    target: Array  # the loss is -sum(target * log(p))
    dtype: Any  # of the logits


def softmax_cross_entropy_forward(
    logits: Array,
    t: Array,
    class_weights: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> tuple[Array, SoftmaxCrossEntropyCtx]:
    r"""Return the mean over the batch of the cross entropy between softmax(logits) and the labels.

    .. math:: L = -\frac{\sum_n \sum_k w_k t_{nk} \log \mathrm{softmax}(z_n)_k}{\sum_n \sum_k w_k t_{nk}}

    Without class weights the divisor is N, the size of the batch (less the rows left out).

    Parameters
    ----------
    logits : array (N, K), float
        Unnormalised scores z; no softmax before.
    t : array (N,), integer labels 0 <= t < K, or (N, K), the type of `logits`, one-hot or probabilities
    class_weights : array (K,), the type of `logits` or, for a half type, also float32, optional
        Weight w of each class: the loss is the weighted mean. For labels it is that of torch, smoothed or
        not; for targets (N, K) torch divides by N, which would make one-hot rows differ from labels.
    label_smoothing : float, 0 <= label_smoothing < 1, default 0
        Mix the targets with the uniform distribution (arXiv:1512.00567). The divisor is that of the
        targets as they were.
    ignore_index : int, optional
        Rows with this label (any number, such as -1 or 255) are left out of the mean.

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : SoftmaxCrossEntropyCtx

    Raises
    ------
    ShapeError
        If the shapes do not fit or the batch is empty.
    ArgumentError
        If a label is out of range, or all rows are left out or weigh nothing. On a GPU, where looking
        would stall, the loss becomes NaN instead. Also if `ignore_index` comes with targets (N, K).
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
    N, K = logits.shape
    if not 0.0 <= label_smoothing < 1.0:
        raise ArgumentError(op, f"label_smoothing must be at least 0 and below 1, got {label_smoothing!r}")
    weights = _class_weights(op, logits, class_weights)
    equal = weights is None and ignore_index is None and not label_smoothing
    target, kept = _targets(op, xp, logits, t, ignore_index, 1.0 / N if equal else 1.0)
    weighted = target if weights is None else target * weights
    divisor: Any = float(N)
    if weights is not None or kept is not None:
        divisor = xp.sum(weighted)
        if is_on_host(divisor) and float(divisor) == 0.0:
            raise ArgumentError(
                op,
                f"there is nothing to average: every label is the ignore_index {ignore_index!r} "
                "or of a class whose weight is 0",
            )
    if label_smoothing:
        uniform = label_smoothing / K if kept is None else kept * (label_smoothing / K)
        weighted = target * (1.0 - label_smoothing) + uniform
        weighted = weighted if weights is None else weighted * weights
    if not equal:
        weighted = weighted / divisor
    loss, p = find("softmax_cross_entropy_forward", xp)(logits, weighted)
    if kept is not None:
        p = xp.where(kept > 0.0, p, 0.0)  # whatever the scores of rows left out, NaN even
    check_finite(op, loss, logits=logits, class_weights=class_weights)
    return loss, SoftmaxCrossEntropyCtx(p, weighted, logits.dtype)


def softmax_cross_entropy_backward(dy: Array | float, ctx: SoftmaxCrossEntropyCtx) -> Array:
    """Return d loss / d logits: dy * (softmax - target) / N, each row by its weight.

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
    xp = check_scale("softmax_cross_entropy_backward", dy, ctx.p)
    dlogits = find("softmax_cross_entropy_backward", xp)(scale_as(xp, dy, ctx.p.dtype), ctx.p, ctx.target)
    return xp.astype(dlogits, ctx.dtype, copy=False)


def _class_weights(op: str, logits: Array, class_weights: Array | None) -> Array | None:
    """Return the class weights in at least float32."""
    if class_weights is None:
        return None
    weights = check_weights(op, logits, "class_weights", class_weights)
    if tuple(class_weights.shape) != (logits.shape[1],):
        raise ShapeError(
            op,
            f"class_weights must have shape (K,) = ({logits.shape[1]},) to go with the logits, "
            f"got {tuple(class_weights.shape)}",
        )
    return weights


def _targets(
    op: str, xp: Any, logits: Array, t: Array, ignore_index: int | None, share: float
) -> tuple[Array, Array | None]:
    """Return the targets as (N, K) in at least float32, and 1 or 0 for rows kept or left out, (N, 1), if some are.

    They are times `share`. Rows left out are zero; an invalid label gives a row of NaN on a GPU.
    """
    N, K = logits.shape
    check_place(op, "logits", logits, "t", t)
    wide = wide_dtype(xp, logits.dtype)
    if len(t.shape) == 2:
        if tuple(t.shape) != (N, K):
            raise ShapeError(
                op,
                f"t must have shape (N,) = ({N},) or (N, K) = {(N, K)} like the logits, got {tuple(t.shape)}",
            )
        if ignore_index is not None:
            raise ArgumentError(op, f"ignore_index needs labels t of shape (N,) = ({N},), got shape {(N, K)}")
        if is_integer(xp, t):  # one-hot rows of integers, as in the book
            rows = xp.astype(t, wide)
        else:
            check_arrays(op, logits=logits, t=t)
            rows = xp.astype(t, wide, copy=False)
        return rows if share == 1.0 else rows * share, None
    if tuple(t.shape) != (N,):
        raise ShapeError(
            op,
            f"t must have shape (N,) = ({N},) or (N, K) = {(N, K)} to go with the logits, got {tuple(t.shape)}",
        )
    if not is_integer(xp, t):
        raise DTypeError(op, f"labels t of shape (N,) must be integers, got {t.dtype}; give classes as 0..{K - 1}")
    t = xp.astype(t, xp.int64, copy=False)  # uint8 would count 300 classes as 0..255, 0..43
    on_host, kept = is_on_host(t), None
    if ignore_index is not None:
        of_class = t != int(ignore_index)
        if on_host:
            _check_labels(op, t[of_class], K)
        t, kept = xp.where(of_class, t, 0), xp.astype(of_class, wide)[:, None]
    elif on_host:
        _check_labels(op, t, K)
    target = find("one_hot", xp)(t, K, wide, share, on_host)
    return target if kept is None else target * kept, kept


def _check_labels(op: str, t: Array, K: int) -> None:
    if t.shape[0] == 0:
        return
    labels = to_numpy(t)  # on the host: the same memory, and NumPy has its numbers in a tenth of torch's time
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= K:
        raise ArgumentError(
            op,
            f"labels must be from 0 to {K - 1} for {K} classes, got labels from {low} to {high}; "
            "check the number of outputs of the model, or renumber the labels",
        )


class KLDivergenceCtx(NamedTuple):
    """Kept for backward: the targets themselves, nothing new."""

    t: Array


def kl_divergence_forward(y: Array, t: Array) -> tuple[Array, KLDivergenceCtx]:
    r"""Return the mean over the batch of the divergence of predicted from target distributions.

    .. math:: L = \frac1N \sum_n \sum_k t_{nk} (\log t_{nk} - y_{nk})

    The sum is over all axes but the first, and a target of 0 adds nothing.

    Parameters
    ----------
    y : array (N, ...), float
        Logarithms of the predicted probabilities, as from `log_softmax_forward`.
    t : array, shape and type of `y`
        Target probabilities, 0 or above.

    Returns
    -------
    loss : array, 0-d, in at least float32
    ctx : KLDivergenceCtx

    Raises
    ------
    ShapeError
        If the shapes differ or the batch is empty.
    ArgumentError
        If a target is negative. On a GPU, where looking would stall, the loss becomes NaN instead.
    NonFiniteError
        If the loss is not finite; on a GPU, where looking would stall, it is returned as it is.
    DTypeError, ArrayMismatchError
        If an argument is no float array, or they differ in library, device or float type.

    References
    ----------
    Kullback and Leibler, *On information and sufficiency* (1951).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.functional import kl_divergence_forward
    >>> loss, ctx = kl_divergence_forward(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(loss), 6)  # the logarithm of 2
    0.693147
    """
    op = "kl_divergence"
    xp = check_arrays(op, y=y, t=t)
    check_same_shape(op, "y", y, t)
    if not check_range(op, t, 0.0, math.inf, "they are probabilities, not their logarithms"):
        t = nan_outside(xp, t, 0.0, math.inf)
    wide = wide_dtype(xp, y.dtype)
    target = xp.astype(t, wide, copy=False)
    nothing = target == 0.0
    # where the target is zero the prediction may be minus infinity
    gap = xp.where(nothing, 0.0, xp.log(xp.where(nothing, 1.0, target)) - xp.astype(y, wide, copy=False))
    loss = xp.sum(target * gap) / y.shape[0]
    check_finite(op, loss, y=y, t=t)
    return loss, KLDivergenceCtx(t)


def kl_divergence_backward(dy: Array | float, ctx: KLDivergenceCtx) -> Array:
    """Return d loss / d y = -t / N, times dy.

    Parameters
    ----------
    dy : 0-d array or float
        Gradient of what is minimised with respect to the loss, usually 1.
    ctx : KLDivergenceCtx

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
    >>> from xpnet.functional import kl_divergence_backward, kl_divergence_forward
    >>> loss, ctx = kl_divergence_forward(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    >>> kl_divergence_backward(1.0, ctx)
    array([[-1., -0.]])
    """
    xp = check_scale("kl_divergence_backward", dy, ctx.t)
    wide = xp.astype(ctx.t, wide_dtype(xp, ctx.t.dtype), copy=False)  # dy, a loss scale, may be beyond float16
    return xp.astype(wide * (scale_as(xp, dy, wide.dtype) * (-1.0 / ctx.t.shape[0])), ctx.t.dtype, copy=False)
