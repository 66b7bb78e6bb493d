"""Gradients of a batch gone through in pieces equal those of the batch as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArgumentError
from xpnet.layers import Dense, ReLU, Sequential
from xpnet.losses import MeanSquaredError, SoftmaxCrossEntropy
from xpnet.testing import assert_close
from xpnet.training import Trainer
from xpnet.training.step import forward_backward

LOSSES = {
    "plain": lambda: SoftmaxCrossEntropy(),
    "smoothed": lambda: SoftmaxCrossEntropy(label_smoothing=0.1),
    "weighted": lambda: SoftmaxCrossEntropy(class_weights=[1.0, 0.5, 4.0]),
    "ignoring": lambda: SoftmaxCrossEntropy(ignore_index=2),
    "both": lambda: SoftmaxCrossEntropy(class_weights=[1.0, 0.5, 4.0], ignore_index=2),
}


def model(dtype: str = "float32") -> Sequential:
    with backend.using(backend.get().name, dtype=dtype):
        return Sequential(Dense(8), ReLU(), Dense(3)).build((4,), rng=5)


def both_ways(xp, loss, x, t, micro_batch: int):
    whole, pieces = model(x.dtype.name), model(x.dtype.name)
    x, t = xp.asarray(x), xp.asarray(t)
    expected, y = forward_backward(whole, loss, x, t)
    pieces.store.segments[0].grad[...] = 7.0  # what an earlier step left
    value, parts = forward_backward(pieces, loss, x, t, micro_batch=micro_batch)
    assert_close(value, xp.to_numpy(expected), terms=20)
    assert_close(parts, xp.to_numpy(y), terms=20)
    for a, b in zip(pieces.parameters(), whole.parameters(), strict=True):
        assert_close(a.grad, xp.to_numpy(b.grad), terms=20)
    assert not any(layer._pending for _, layer in pieces.named_layers())


@pytest.mark.parametrize("micro_batch", [1, 4, 10, 13, 50])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])  # a float64 of NumPy is a float of Python too
def test_equal_to_the_whole_batch(xp, rng, name, micro_batch, dtype) -> None:
    x, t = rng.standard_normal((13, 4)).astype(dtype), rng.integers(0, 3, 13)
    t[:4] = 2  # the first piece of 4 counts for nothing where 2 is left out
    both_ways(xp, LOSSES[name](), x, t, micro_batch)


def test_soft_targets_and_regression(xp, rng) -> None:
    x = rng.standard_normal((11, 4)).astype(np.float32)
    soft = rng.dirichlet(np.ones(3), 11).astype(np.float32)
    both_ways(xp, SoftmaxCrossEntropy(class_weights=[1.0, 0.5, 4.0]), x, soft, 4)
    both_ways(xp, MeanSquaredError(), x, soft, 4)


def test_a_batch_of_which_nothing_counts_is_refused(rng) -> None:
    net, x = model(), np.ones((6, 4), np.float32)
    with pytest.raises(ArgumentError, match="there is nothing to average"):
        forward_backward(net, SoftmaxCrossEntropy(ignore_index=2), x, np.full(6, 2), micro_batch=2)
    assert not any(layer._pending for _, layer in net.named_layers())


def test_a_failure_in_a_later_piece_leaves_nothing_behind(rng) -> None:
    net, x, t = model(), rng.standard_normal((6, 4)).astype(np.float32), np.array([0, 1, 2, 0, 3, 0])
    with pytest.raises(ArgumentError, match="labels must be from 0 to 2"):
        forward_backward(net, SoftmaxCrossEntropy(), x, t, micro_batch=2)
    assert not any(layer._pending for _, layer in net.named_layers())


def test_the_trainer_does_it(rng) -> None:
    x, t = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    whole, pieces = (Trainer(model(), batch_size=20, micro_batch=m) for m in (None, 7))
    whole.fit((x, t), epochs=3, verbose=False)
    pieces.fit((x, t), epochs=3, verbose=False)
    assert pieces.optimizer.step == whole.optimizer.step == 9
    assert pieces.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-5)
    np.testing.assert_allclose(pieces.model.store.segments[0].data, whole.model.store.segments[0].data, atol=1e-5)
    with pytest.raises(ValueError, match="micro_batch must be a positive int, got 0"):
        Trainer(model(), micro_batch=0)
