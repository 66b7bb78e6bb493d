"""train_step, evaluate and predict."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend
from xpnet.data import Loader
from xpnet.errors import ArrayMismatchError, NonFiniteError
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, ReLU, Sequential
from xpnet.losses import MeanSquaredError, SoftmaxCrossEntropy
from xpnet.optim import SGD, Adam
from xpnet.testing import assert_close
from xpnet.training import count_correct, evaluate, predict, train_step


def small_model() -> Sequential:
    return Sequential(Conv2D(4, 3, padding=1, bias=False), BatchNorm(), ReLU(), Flatten(), Dropout(0.2), Dense(3))


def images(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    t = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 2, 6, 6)) + t[:, None, None, None]
    return x.astype(np.float32), t.astype(np.int64)


def test_train_step_is_forward_loss_backward_update(xp, rng) -> None:
    x, t = images(rng, 8)
    x, t = xp.asarray(x), xp.asarray(t)
    by_step, by_hand = (small_model().build((2, 6, 6), rng=3) for _ in range(2))
    loss, optimizer = SoftmaxCrossEntropy(), SGD(lr=0.1)
    value = train_step(by_step, loss, optimizer, x, t)

    expected = loss.forward(by_hand.forward(x, train=True), t)
    by_hand.backward(loss.backward())
    for p in by_hand.parameters():
        p.data[...] = p.data - 0.1 * p.grad
    assert value.shape == ()
    assert_close(value, xp.to_numpy(expected))
    for stepped, p in zip(by_step.parameters(), by_hand.parameters(), strict=True):
        assert_close(stepped.data, xp.to_numpy(p.data))


def test_gradients_do_not_leak_from_step_to_step(rng) -> None:
    x, t = images(rng, 8)
    model = Dense(3).build((72,), rng=0)
    flat = x.reshape(8, -1)
    train_step(model, SoftmaxCrossEntropy(), SGD(lr=1e-12), flat, t)
    first = model.W.grad.copy()
    train_step(model, SoftmaxCrossEntropy(), SGD(lr=1e-12), flat, t)
    assert_close(model.W.grad, first)


def test_a_failed_step_changes_no_weight_and_the_next_one_works(xp, rng) -> None:
    x, t = images(rng, 8)
    model = small_model().build((2, 6, 6), rng=3)
    before = {name: xp.to_numpy(a) for name, a in model.state_dict().items() if "running" not in name}
    loss, optimizer = SoftmaxCrossEntropy(), Adam()
    with pytest.raises(Exception, match=r"t must have shape|labels must be"):
        train_step(model, loss, optimizer, xp.asarray(x), xp.asarray(t[:5]))
    after = model.state_dict()
    assert all(np.array_equal(a, xp.to_numpy(after[name])) for name, a in before.items())
    train_step(model, loss, optimizer, xp.asarray(x), xp.asarray(t))
    assert not any(layer._pending for _, layer in model.named_layers())


def test_nan_in_the_input_is_reported_by_the_loss(rng) -> None:
    x, t = images(rng, 8)
    x[5, 0, 2, 3] = np.nan
    model = Sequential(Flatten(), Dense(3)).build((2, 6, 6))
    before = model.state_dict()
    with pytest.raises(NonFiniteError, match=r"logits holds 3 values that are NaN or infinite, first in row 5"):
        train_step(model, SoftmaxCrossEntropy(), SGD(), x, t)
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())


def test_a_batch_of_another_library_names_the_layer(rng) -> None:
    pytest.importorskip("array_api_strict")
    x, t = images(rng, 4)
    with backend.using("numpy"):
        model = small_model().build((2, 6, 6))
    with backend.using("array_api_strict"):
        x, t = backend.asarray(x), backend.asarray(t)
    with pytest.raises(
        ArrayMismatchError, match=r'conv2d \(layer "0"\): x is array_api_strict .* but W is numpy .*asarray'
    ):
        train_step(model, SoftmaxCrossEntropy(), SGD(), x, t)


def test_count_correct_with_labels_and_one_hot(xp, rng) -> None:
    y, t = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    expected = sum(int(np.argmax(row) == label) for row, label in zip(y, t, strict=True))
    assert int(count_correct(xp.asarray(y), xp.asarray(t))) == expected
    assert int(count_correct(xp.asarray(y), xp.asarray(np.eye(4, dtype=np.float32)[t]))) == expected


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_evaluate_is_the_mean_over_samples_whatever_the_batches(xp, rng, batch_size) -> None:
    x, t = images(rng, 50)
    model = small_model().build((2, 6, 6), rng=1)
    y = xp.to_numpy(model.predict(xp.asarray(x))).astype(np.float64)
    log_p = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
    measured = evaluate(model, (x, t), batch_size=batch_size)
    assert measured.loss == pytest.approx(-log_p[np.arange(50), t].mean(), rel=1e-5)
    assert measured.accuracy == (y.argmax(axis=1) == t).mean()
    on_device = evaluate(model, (xp.asarray(x), xp.asarray(t)), batch_size=batch_size)
    assert on_device.loss == pytest.approx(measured.loss, rel=1e-6)
    assert on_device.accuracy == measured.accuracy


def test_evaluate_changes_nothing(rng) -> None:
    x, t = images(rng, 20)
    model = small_model().build((2, 6, 6), rng=1)
    before = model.state_dict()
    loader = Loader(x, t, batch_size=256, shuffle=False)
    assert evaluate(model, (x, t)) == evaluate(model, (x, t)) == evaluate(model, loader)
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())
    assert not any(layer._pending for _, layer in model.named_layers())


def test_evaluate_takes_a_loader_and_another_loss(rng) -> None:
    x = rng.standard_normal((30, 5)).astype(np.float32)
    t = rng.standard_normal((30, 2)).astype(np.float32)
    model = Dense(2).build((5,), rng=0)
    measured = evaluate(model, Loader(x, t, batch_size=8), loss=MeanSquaredError())
    assert measured.accuracy is None
    assert measured.loss == pytest.approx(((x @ model.W.data - t) ** 2).mean(), rel=1e-5)


def test_evaluate_refuses_an_empty_set() -> None:
    model = Dense(2).build((5,))
    for x, t in (
        (np.ones((0, 5), np.float32), np.ones(0, np.int64)),
        (np.ones((3, 5), np.float32), np.ones(2, np.int64)),
    ):
        with pytest.raises(ValueError, match=r"sample|length|empty"):
            evaluate(model, (x, t))


@pytest.mark.parametrize("batch_size", [1, 16, 100])
def test_predict_in_batches_equals_one_batch(xp, rng, batch_size) -> None:
    x, _ = images(rng, 33)
    model = small_model().build((2, 6, 6), rng=1)
    whole = xp.to_numpy(model.predict(xp.asarray(x)))
    assert_close(predict(model, x, batch_size=batch_size), whole)
    assert_close(predict(model, xp.asarray(x), batch_size=batch_size), whole)
