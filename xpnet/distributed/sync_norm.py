"""Batch normalisation by the statistics of the whole batch, however many ranks it is spread over."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backend import Array, device_of, is_on_host, wide_dtype
from xpnet.distributed.communicator import Communicator, SingleCommunicator
from xpnet.errors import ShapeError
from xpnet.functional.checks import check_gradient
from xpnet.functional.norm import check_batch_norm
from xpnet.kernels import find
from xpnet.kernels.agnostic.norm import channel_rows, from_rows
from xpnet.layers import BatchNorm, Layer
from xpnet.layers.data_format import from_nchw, to_nchw

__all__ = [
    "SyncBatchNorm",
    "SyncBatchNormCtx",
    "sync_batch_norm_backward",
    "sync_batch_norm_forward",
    "synchronize_batch_norm",
]


class SyncBatchNormCtx(NamedTuple):
    """Kept for backward: the input itself and a few numbers a channel (in at least float32)."""

    x: Array  # (N, C) or (N, C, H, W), this rank's
    gamma: Array | None
    has_beta: bool
    mean: Array  # (C,), of all ranks
    inv_std: Array  # (C,), of all ranks
    count: Array  # (1,), values a channel over all ranks
    idle: bool  # x stands for no samples


def sync_batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    comm: Communicator,
    momentum: float = 0.1,
    eps: float = 1e-5,
    idle: bool = False,
) -> tuple[Array, SyncBatchNormCtx, Array, Array]:
    r"""Normalise each channel by mean and variance over the batches of all ranks, in training.

    Rank i brings the count :math:`n_i`, the mean :math:`\mu_i` and the sum of squares about it :math:`M_i`, all in one
    message. From them, without the cancellation of a mean of squares,

    .. math::
        n = \sum n_i, \quad \mu = \frac{1}{n} \sum n_i \mu_i, \quad
        \sigma^2 = \frac{1}{n} \sum \left( M_i + n_i (\mu_i - \mu)^2 \right)

    Parameters
    ----------
    x : array (N, C) or (N, C, H, W), float
        This rank's; ranks may have different N.
    gamma, beta : array (C,), the type of `x`, or None
    running_mean, running_var : array (C,)
        Not changed.
    comm : Communicator
    momentum, eps : float
        As for `xpnet.functional.batch_norm_forward`.
    idle : bool, default False
        `x` stands for no samples at all: it is normalised, but does not count.

    Returns
    -------
    y : array, shape and type of `x`
    ctx : SyncBatchNormCtx
    running_mean, running_var : array (C,)
        New arrays, the same on all ranks.

    Raises
    ------
    ShapeError
        If all ranks together have just one value per channel.
    OperationError
        As `xpnet.functional.batch_norm_forward`.

    References
    ----------
    Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances* (1979).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.distributed import SingleCommunicator, sync_batch_norm_forward
    >>> x, comm = np.array([[1.0], [3.0]]), SingleCommunicator()
    >>> y, ctx, mean, var = sync_batch_norm_forward(x, None, None, np.zeros(1), np.ones(1), comm=comm, eps=1e-12)
    >>> y
    array([[-1.],
           [ 1.]])
    >>> mean, var
    (array([0.2]), array([1.1]))
    """
    xp = check_batch_norm(x, gamma, beta, running_mean, running_var, momentum=momentum, eps=eps)
    rows = channel_rows(xp, x)
    own_mean = xp.mean(rows, axis=1)
    centred = rows - own_mean[:, None]
    count = xp.full((1,), 0.0 if idle else float(rows.shape[1]), dtype=rows.dtype, device=device_of(x))
    squares = xp.sum(centred * centred, axis=1)
    C = rows.shape[0]
    all_ranks = comm.stack(xp.concat([own_mean, squares, count]))  # (ranks, 2C + 1)
    n = all_ranks[:, 2 * C :]  # (ranks, 1)
    total = xp.sum(n, axis=0)  # (1,)
    if is_on_host(total) and float(total[0]) < 2.0:  # on a GPU the variance becomes NaN, which the trainer reports
        raise ShapeError("sync_batch_norm", "one value per channel over all ranks has no variance; use larger batches")
    weight = n / total
    mean = xp.sum(weight * all_ranks[:, :C], axis=0)
    apart = all_ranks[:, :C] - mean[None, :]
    squares = xp.sum(xp.where(n > 0.0, all_ranks[:, C : 2 * C], 0.0) + n * apart * apart, axis=0)
    var = squares / total
    y, _, _, inv_std = find("batch_norm_forward", xp)(x, gamma, beta, mean, var, eps, False)
    running_mean = (1.0 - momentum) * running_mean + momentum * mean
    running_var = (1.0 - momentum) * running_var + momentum * (squares / (total - 1.0))
    return y, SyncBatchNormCtx(x, gamma, beta is not None, mean, inv_std, total, idle), running_mean, running_var


def sync_batch_norm_backward(
    dy: Array, ctx: SyncBatchNormCtx, *, comm: Communicator
) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of `sync_batch_norm_forward`.

    .. math::
        dx = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} \left( dy - \frac{1}{n} \sum dy
             - \frac{\hat x}{n} \sum dy\,\hat x \right)

    with sums over all ranks, in one message.

    Parameters
    ----------
    dy : array, shape of y
        Not changed. The loss must be a sum over the ranks (each with its share of the mean), as `DataParallel` has it.
    ctx : SyncBatchNormCtx
    comm : Communicator

    Returns
    -------
    dx : array, shape of x
    dgamma, dbeta : array (C,), or None where there was none
        This rank's part, to be summed with all other gradients.

    Raises
    ------
    ShapeError
        If dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.distributed import SingleCommunicator, sync_batch_norm_backward, sync_batch_norm_forward
    >>> x, comm = np.array([[1.0], [3.0]]), SingleCommunicator()
    >>> y, ctx, *_ = sync_batch_norm_forward(x, None, np.zeros(1), np.zeros(1), np.ones(1), comm=comm)
    >>> dx, dgamma, dbeta = sync_batch_norm_backward(np.array([[1.0], [1.0]]), ctx, comm=comm)
    >>> dx, dbeta
    (array([[0.],
           [0.]]), array([2.]))
    """
    xp = check_gradient("sync_batch_norm_backward", dy, ctx.x, tuple(ctx.x.shape))
    wide = wide_dtype(xp, dy.dtype)
    dy_rows = channel_rows(xp, dy)
    xhat = (channel_rows(xp, ctx.x) - ctx.mean[:, None]) * ctx.inv_std[:, None]
    dgamma, dbeta = xp.sum(dy_rows * xhat, axis=1), xp.sum(dy_rows, axis=1)
    sums = xp.concat([dgamma, dbeta])
    comm.sum_(sums)
    if ctx.idle:  # samples that do not count for the statistics get no gradient by way of them
        return xp.zeros_like(ctx.x), *_own(xp, dgamma, dbeta, ctx, dy.dtype)
    C = dgamma.shape[0]
    scale = ctx.inv_std if ctx.gamma is None else ctx.inv_std * xp.astype(ctx.gamma, wide, copy=False)
    xhat *= (sums[:C] / ctx.count)[:, None]
    dx = (dy_rows - (sums[C:] / ctx.count)[:, None] - xhat) * scale[:, None]
    return from_rows(xp, dx, ctx.x), *_own(xp, dgamma, dbeta, ctx, dy.dtype)


def _own(xp: Any, dgamma: Array, dbeta: Array, ctx: SyncBatchNormCtx, dtype: Any) -> tuple[Array | None, Array | None]:
    """Return the gradients of those parameters that there are."""
    return (
        None if ctx.gamma is None else xp.astype(dgamma, dtype, copy=False),
        xp.astype(dbeta, dtype, copy=False) if ctx.has_beta else None,
    )


class SyncBatchNorm(BatchNorm):
    """Batch normalisation by the statistics of all ranks' samples: the layer of one process with the whole batch.

    Two messages a step and layer, one in each direction. Worth it where the share of a rank is small.

    Parameters
    ----------
    comm : Communicator, optional
        By default one process; `synchronize_batch_norm` puts such layers in the place of those of a model.
    **settings
        Those of `xpnet.layers.BatchNorm`.

    Attributes
    ----------
    idle : bool
        Whether the next input stands for no samples; see `sync_batch_norm_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.distributed import SyncBatchNorm
    >>> y = SyncBatchNorm().forward(np.array([[1.0], [3.0]]), train=True)
    >>> np.round(y, 3)
    array([[-1.],
           [ 1.]])
    """

    comm: Communicator = SingleCommunicator()
    idle = False

    def __init__(self, comm: Communicator | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        if comm is not None:
            self.comm = comm

    # without `activation` and `overwrite`, which `xpnet.layers.fusion` asks of a plain BatchNorm alone
    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:  # type: ignore[override]
        if not train:
            return super()._forward(x, train)
        gamma, beta = (self.gamma.data, self.beta.data) if self.affine else (None, None)
        y, ctx, mean, var = sync_batch_norm_forward(
            to_nchw(x, self.data_format),
            gamma,
            beta,
            self.running_mean,
            self.running_var,
            comm=self.comm,
            momentum=1.0 if self.momentum is None else self.momentum,
            eps=self.eps,
            idle=self.idle,
        )
        self._remember(mean, var)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:  # type: ignore[override]
        dx, dgamma, dbeta = sync_batch_norm_backward(to_nchw(dy, self.data_format), ctx, comm=self.comm)
        if self.affine:
            self.gamma.accumulate(dgamma)
            self.beta.accumulate(dbeta)
        return from_nchw(dx, self.data_format) if need_dx else None


def synchronize_batch_norm(model: Layer, comm: Communicator) -> int:
    """Let every `BatchNorm` of a model normalise over all ranks, as `SyncBatchNorm`; return how many there are.

    Parameters
    ----------
    model : Layer
        Built or not; parameters, statistics and their names stay as they are.
    comm : Communicator

    Examples
    --------
    >>> from xpnet.distributed import SingleCommunicator, synchronize_batch_norm
    >>> from xpnet.layers import BatchNorm, Dense, Sequential
    >>> model = Sequential(Dense(4), BatchNorm())
    >>> synchronize_batch_norm(model, SingleCommunicator())
    1
    >>> model
    Sequential(
      0: Dense(units=4)
      1: SyncBatchNorm()
    )
    """
    found = 0
    for _, layer in model.named_layers():
        if type(layer) in (BatchNorm, SyncBatchNorm):
            layer.__class__ = SyncBatchNorm  # the one difference; containers need not know how to exchange a layer
            layer.comm = comm  # type: ignore[attr-defined]
            found += 1
    return found
