"""One training step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array, array_namespace, device_of, wide_dtype
from xpnet.layers.base import Layer
from xpnet.layers.state import moving
from xpnet.layers.together import added_together
from xpnet.losses import Loss
from xpnet.optim import LossScale, Optimizer
from xpnet.training.shortage import advised

__all__ = ["divide_gradients", "forward_backward", "is_nothing", "is_plain", "overflows_at", "train_step"]


def train_step(
    model: Layer, loss: Loss, optimizer: Optimizer, x: Array, t: Array, *, loss_scale: LossScale | None = None
) -> Array:
    """Learn from one batch: forward, loss, backward, update.

    Nothing here waits for a device: on a GPU, reading the returned loss does. With a loss scale, each step reads
    whether the gradients are finite.

    Parameters
    ----------
    model : Layer
    loss : Loss
    optimizer : Optimizer
    x : array (N, ...)
        On the model's backend and of its float type.
    t : array (N,) or (N, K)
        Labels or targets.
    loss_scale : LossScale, optional
        For a model in float16, such as ``DynamicLossScale()``: a step whose gradients overflow changes no weight, and
        is counted there. The gradients in the model stay multiplied by its value.

    Returns
    -------
    loss : array, 0-d
        Of the batch, before the update; not multiplied by anything.

    Raises
    ------
    OperationError
        If the arrays do not fit the model or the loss is not finite; the weights are not changed.
    OutOfMemoryError
        If memory runs out: with the layer, and a batch that is predicted to fit. The model can be used on.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.losses import SoftmaxCrossEntropy
    >>> from xpnet.optim import SGD
    >>> from xpnet.training import train_step
    >>> x, t = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> model, loss, optimizer = Dense(2).build((2,)), SoftmaxCrossEntropy(), SGD(lr=1.0)
    >>> first, *_, last = [float(train_step(model, loss, optimizer, x, t)) for _ in range(20)]
    >>> last < first
    True
    """
    with advised(model, optimizer, x):
        value, _ = forward_backward(model, loss, x, t, scale=1.0 if loss_scale is None else loss_scale.value)
        optimizer.update(model, loss_scale=loss_scale)
    return value


def forward_backward(
    model: Layer,
    loss: Loss,
    x: Array,
    t: Array,
    *,
    micro_batch: int | None = None,
    scale: float | Array = 1.0,
    enter: Callable[[str], object] = lambda phase: None,
) -> tuple[Array, Array]:
    """Set the gradients of the model for one batch; return the loss and the model's output.

    Parameters
    ----------
    model : Layer
    loss : Loss
    x, t : array (N, ...)
    micro_batch : int, optional
        Go through the batch in pieces of so many samples: the gradient of the whole batch in the memory
        of one piece. Equal to rounding, except that batch normalisation sees each piece alone.
    scale : float or 0-d array, default 1
        Multiply the gradients by it; they may overflow then, without a warning.
    enter : function of a str
        Called at the beginning of each phase, with "forward", "loss" or "backward".

    Returns
    -------
    value : array, 0-d
    y : array (N, ...)
    """
    put_back = moving(model)
    try:
        if micro_batch is None or micro_batch >= x.shape[0]:
            enter("forward")
            y = model.forward(x, train=True)
            enter("loss")
            value = loss.forward(y, t)
            _backward(model, loss, scale, scale, enter, fresh=True)
            return value, y
        return _accumulate(model, loss, x, t, micro_batch, scale, enter)
    except BaseException:
        model.forget()  # so that the next step does not meet what this one left
        put_back()
        raise


def _backward(
    model: Layer, loss: Loss, factor: Any, scale: float | Array, enter: Callable[[str], object], *, fresh: bool
) -> None:
    """Go back from the loss, times a factor."""
    with overflows_at(scale):
        dy = loss.backward(factor)
        enter("backward")
        if fresh:
            model.zero_grad()
        with added_together(array_namespace(dy)):
            model.backward(dy, need_dx=False)


def _accumulate(
    model: Layer,
    loss: Loss,
    x: Array,
    t: Array,
    micro_batch: int,
    scale: float | Array,
    enter: Callable[[str], object],
) -> tuple[Array, Array]:
    """Add up the gradients of the pieces, each times its weight, and divide by the sum of the weights."""
    N = x.shape[0]
    value: Any = 0.0
    weight: Any = 0.0
    whole: Any = None  # written piece by piece: to concatenate more than 8, CuPy sends their addresses from the host
    fresh = True
    for start in range(0, N, micro_batch):
        part = slice(start, min(start + micro_batch, N))
        enter("forward")
        y = model.forward(x[part, ...], train=True)
        if whole is None:
            xp = array_namespace(y)
            whole = xp.empty((N, *y.shape[1:]), dtype=y.dtype, device=device_of(y))
        whole[part, ...] = y
        enter("loss")
        share = loss.weight(y, t[part, ...]) / N  # 1/N for each sample, where none weighs more than another
        if is_nothing(share):
            model.drop_pending()
            continue
        value = value + share * loss.forward(y, t[part, ...])
        weight = weight + share
        _backward(model, loss, share * scale, scale, enter, fresh=fresh)
        fresh = False
    if fresh:
        return loss.forward(whole, t), whole  # it says that there is nothing to learn from
    if is_plain(weight):
        return value, whole  # the shares of equal samples sum to 1
    with overflows_at(scale):
        divide_gradients(model, weight)
    return value / weight, whole


def overflows_at(scale: float | Array) -> contextlib.AbstractContextManager[Any]:
    """Have NumPy warn of gradients that overflow only where that was not to be expected: at a scale of 1."""
    plain = is_plain(scale) and scale == 1.0
    return contextlib.nullcontext() if plain else np.errstate(over="ignore", invalid="ignore")


def divide_gradients(model: Layer, weight: Array | float) -> None:
    """Divide all gradients by a weight, which may be beyond their type, float16."""
    for segment in model.store.segments:
        xp = array_namespace(segment.grad)
        wide = wide_dtype(xp, segment.grad.dtype)
        mean = xp.astype(segment.grad, wide, copy=False) / xp.asarray(weight, dtype=wide)
        segment.grad[...] = xp.astype(mean, segment.grad.dtype, copy=False)


def is_nothing(weight: Array | float) -> bool:
    """Tell whether no sample of a batch counts; waits for the device only where samples weigh differently."""
    return not is_plain(weight) and float(weight) == 0.0


def is_plain(weight: Array | float) -> bool:
    """Tell whether a weight is that of equal samples: a number of Python, and no float64 of NumPy, which is one too."""
    return type(weight) is float
