"""Synchronised batch normalisation on one rank is batch normalisation, and padding leaves no trace in it."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.distributed import (
    SingleCommunicator,
    SyncBatchNorm,
    sync_batch_norm_backward,
    sync_batch_norm_forward,
    synchronize_batch_norm,
)
from xpnet.errors import ShapeError
from xpnet.functional import batch_norm_backward, batch_norm_forward
from xpnet.layers import BatchNorm, Dense, Sequential
from xpnet.testing import assert_close


class Beside(SingleCommunicator):
    """The ranks of a test, one after another: this one is given what another brings."""

    def __init__(self, others):
        self.others = others

    def stack(self, a):
        self.brought = np.array(a)
        return np.stack([a, *self.others])


def brings(x):
    """What a rank with these samples sends."""
    comm = Beside([])
    zero, one = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
    sync_batch_norm_forward(x, None, None, zero, one, comm=comm)
    return comm.brought


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_one_rank_is_batch_norm(xp, rng, shape, affine) -> None:
    x, dy = (xp.asarray(rng.standard_normal(shape) + far, dtype="float32") for far in (30.0, 0.0))
    gamma, beta = (xp.asarray(rng.standard_normal(3), dtype="float32") if affine else None for _ in range(2))
    mean, var = xp.asarray(np.zeros(3), dtype="float32"), xp.asarray(np.ones(3), dtype="float32")
    y, ctx, new_mean, new_var = sync_batch_norm_forward(x, gamma, beta, mean, var, comm=SingleCommunicator())
    expected, expected_ctx, *statistics = batch_norm_forward(x, gamma, beta, mean, var, train=True)
    assert_close(y, xp.to_numpy(expected), rtol=1e-4, atol=1e-4)
    for a, b in zip((new_mean, new_var), statistics, strict=True):
        assert_close(a, xp.to_numpy(b), rtol=1e-5)
    gradients = sync_batch_norm_backward(dy, ctx, comm=SingleCommunicator())
    for a, b in zip(gradients, batch_norm_backward(dy, expected_ctx), strict=True):
        if b is None:
            assert a is None
        else:
            assert_close(a, xp.to_numpy(b), rtol=1e-3, atol=1e-3)


def test_statistics_far_from_zero_are_exact() -> None:
    """A mean of ten thousand and a spread of one, on two ranks of different size, in float32."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((30, 1)) + 1e4).astype(np.float32)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    comm = Beside([brings(x[20:])])
    _, _, mean, var = sync_batch_norm_forward(x[:20], None, None, zero, one, comm=comm, momentum=1.0)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(), rtol=3e-7)
    np.testing.assert_allclose(var, x.astype(np.float64).var(ddof=1), rtol=1e-3)  # a mean of squares would be off by 10


def test_padding_does_not_count() -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((8, 2)), rng.standard_normal((2, 2))
    zero, one = np.zeros(2), np.ones(2)
    padded = np.full((2, 2), 1e30)
    comm = Beside([brings(x)])
    _, ctx, mean, var = sync_batch_norm_forward(padded, None, None, zero, one, comm=comm, idle=True)
    _, _, *expected = batch_norm_forward(x, None, None, zero, one, train=True)
    np.testing.assert_allclose((mean, var), expected, rtol=1e-12)
    dx, *_ = sync_batch_norm_backward(dy, ctx, comm=SingleCommunicator())
    assert not dx.any()


def test_one_value_over_all_ranks_is_refused() -> None:
    with pytest.raises(ShapeError, match="one value per channel over all ranks has no variance"):
        SyncBatchNorm().forward(np.ones((1, 4)), train=True)


def test_layers_are_exchanged_in_place() -> None:
    model = Sequential(Dense(4), BatchNorm(momentum=None), Sequential(BatchNorm(affine=False))).build((3,))
    x = np.random.default_rng(2).standard_normal((9, 3)).astype(np.float32)
    y = model.forward(x, train=True)
    model.forget()
    names = list(model.state_dict())
    assert synchronize_batch_norm(model, SingleCommunicator()) == 2
    assert list(model.state_dict()) == names
    np.testing.assert_allclose(model.forward(x, train=True), y, atol=1e-5)
    assert float(model[1].batches[0]) == 2.0
