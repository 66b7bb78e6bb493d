"""Brightness, contrast, normalisation and MixUp against loops over samples, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend
from xpnet.data import Loader
from xpnet.data.augment import Brightness, Contrast, MixUp, MixUpParams, Normalize
from xpnet.errors import ArgumentError, DTypeError, OperationError, ShapeError
from xpnet.losses import SoftmaxCrossEntropy

SHAPE = (4, 3, 5, 6)


@pytest.mark.parametrize("clip", [None, (0.1, 0.9)], ids=str)
def test_brightness_and_contrast(xp, rng, clip):
    x = rng.random(SHAPE).astype(np.float32)
    delta, factor = rng.uniform(-0.5, 0.5, 4), rng.uniform(0.3, 1.7, 4)
    brighter = xp.to_numpy(Brightness(0.5, clip).apply(xp.asarray(x), delta))
    stretched = xp.to_numpy(Contrast(0.7, clip).apply(xp.asarray(x), factor))
    for n in range(4):
        expected = x[n].astype(np.float64) + delta[n]
        np.testing.assert_allclose(brighter[n], expected if clip is None else expected.clip(*clip), atol=1e-6)
        mean = x[n].astype(np.float64).mean()
        expected = mean + factor[n] * (x[n] - mean)
        np.testing.assert_allclose(stretched[n], expected if clip is None else expected.clip(*clip), atol=1e-6)
    assert brighter.dtype == stretched.dtype == np.float32


def test_contrast_of_a_large_bright_image_keeps_its_mean(rng):
    x = (1000.0 + rng.random((1, 3, 200, 200))).astype(np.float32)
    y = Contrast().apply(x, np.array([0.0]))
    np.testing.assert_allclose(y, x.astype(np.float64).mean(), rtol=1e-6)


def test_draws(rng):
    delta = Brightness(0.3).draw(20_000, (1, 2, 2), rng)
    assert -0.3 <= delta.min() < -0.29 < 0.29 < delta.max() <= 0.3
    assert abs(delta.mean()) < 0.01
    factor = Contrast(0.5).draw(20_000, (1, 2, 2), rng)
    assert 0.5 <= factor.min() < 0.51 < 1.49 < factor.max() <= 1.5
    share, partner = MixUp(0.4, classes=2).draw(20_000, (1, 2, 2), rng)
    assert sorted(partner) == list(range(20_000))
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.05)  # of Beta(alpha, alpha)


# --- Normalize -----------------------------------------------------------------------------------


def test_normalize(xp, rng):
    x = rng.normal(size=SHAPE).astype(np.float32)
    mean, std = (0.1, -2.0, 3.0), (0.5, 2.0, 4.0)
    y = xp.to_numpy(Normalize(mean, std).apply(xp.asarray(x)))
    for c in range(3):
        np.testing.assert_allclose(y[:, c], (x[:, c] - mean[c]) / std[c], rtol=1e-5, atol=1e-6)
    assert y.dtype == np.float32
    np.testing.assert_allclose(
        xp.to_numpy(Normalize(0.5, (1.0, 2.0, 4.0)).apply(xp.asarray(x))),
        (x - 0.5) / np.array([1, 2, 4]).reshape(3, 1, 1),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_fit(xp, rng, batch_size):
    x = (rng.normal(size=(50, 3, 4, 5)) * [[[1.0]], [[3.0]], [[0.1]]] + [[[100.0]], [[0.0]], [[-5.0]]]).astype(
        np.float32
    )
    fitted = Normalize.fit(xp.asarray(x), batch_size=batch_size)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(fitted.mean, exact.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.std, exact.std(axis=(0, 2, 3)), rtol=1e-4)
    y = xp.to_numpy(fitted.apply(xp.asarray(x))).astype(np.float64)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0.0, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1.0, atol=1e-4)


def test_fit_describes_what_the_loader_gives(rng):
    x, t = rng.integers(0, 256, (30, 2, 4, 4), dtype=np.uint8), np.zeros(30, np.int64)
    with backend.using("numpy"):
        for scale in (None, (1 / 16, -0.5)):
            ((batch, _),) = Loader(x, t, batch_size=30, scale=scale)
            fitted = Normalize.fit(x, scale=scale)
            np.testing.assert_allclose(fitted.mean, batch.mean(axis=(0, 2, 3)), rtol=1e-5)
            np.testing.assert_allclose(fitted.std, batch.std(axis=(0, 2, 3)), rtol=1e-5)
    negative = Normalize.fit(x, scale=(-1.0, 0.0))
    np.testing.assert_allclose(negative.std, x.std(axis=(0, 2, 3)))
    np.testing.assert_allclose(negative.mean, -x.mean(axis=(0, 2, 3)))


def test_bad_fits(rng):
    x = rng.integers(0, 256, (4, 1, 2, 2))
    with pytest.raises(ArgumentError, match=r"int64; give the scale=\(a, b\)"):
        Normalize.fit(x)
    with pytest.raises(ArgumentError, match="scale must be two numbers"):
        Normalize.fit(x, scale=3.0)
    with pytest.raises(ArgumentError, match="constant"):
        Normalize.fit(np.ones((4, 1, 2, 2)))
    with pytest.raises(ArgumentError, match="NaN"):
        Normalize.fit(np.full((4, 1, 2, 2), np.nan))
    with pytest.raises(ArgumentError, match="batch_size"):
        Normalize.fit(x, scale=(1, 0), batch_size=0)
    with pytest.raises(ShapeError, match="empty"):
        Normalize.fit(np.ones((0, 1, 2, 2)))
    with pytest.raises(DTypeError):
        Normalize.fit(np.ones((4, 1, 2, 2), bool))


def test_normalize_names_the_channels_that_do_not_fit():
    with pytest.raises(ShapeError, match="x has 2 channels but there are 3 means"):
        Normalize((1, 2, 3), 1.0).apply(np.ones((1, 2, 4, 4)))
    with pytest.raises(ShapeError, match="3 standard deviations"):
        Normalize(0.0, (1, 2, 3)).apply(np.ones((1, 1, 4, 4)))


# --- MixUp ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_mixup(xp, rng, soft):
    x = rng.normal(size=SHAPE).astype(np.float32)
    labels = rng.integers(0, 5, 4)
    one_hot = np.eye(5, dtype=np.float32)[labels]
    t = 0.9 * one_hot + np.float32(0.02) if soft else labels
    mix = MixUp(classes=5)
    params = MixUpParams(rng.random(4), np.array([2, 1, 3, 0]))
    y = xp.to_numpy(mix.apply(xp.asarray(x), params))
    mixed = xp.to_numpy(mix.targets(xp.asarray(t), params, xp.asarray(x)))
    before = t if soft else one_hot
    for n, (share, partner) in enumerate(zip(*params, strict=True)):
        np.testing.assert_allclose(y[n], share * x[n] + (1 - share) * x[partner], atol=1e-6)
        np.testing.assert_allclose(mixed[n], share * before[n] + (1 - share) * before[partner], atol=1e-6)
    assert y.dtype == mixed.dtype == np.float32
    assert mixed.shape == (4, 5)


def test_the_loss_takes_what_mixup_gives(xp, rng):
    x, logits = rng.normal(size=SHAPE).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    t = rng.integers(0, 5, 4)
    _, mixed = MixUp(1.0, classes=5)(xp.asarray(x), xp.asarray(t), np.random.default_rng(3))
    loss = SoftmaxCrossEntropy()
    value = float(loss.forward(xp.asarray(logits), mixed))
    log_softmax = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    assert value == pytest.approx(-(xp.to_numpy(mixed) * log_softmax).sum(axis=1).mean(), rel=1e-5)
    assert xp.to_numpy(loss.backward()).shape == (4, 5)


def test_mixup_alone_in_a_batch_changes_nothing(xp, rng):
    x = rng.normal(size=(1, 1, 2, 2)).astype(np.float32)
    y, t = MixUp(classes=3)(xp.asarray(x), xp.asarray([2]), rng)
    np.testing.assert_array_equal(xp.to_numpy(y), x)
    np.testing.assert_array_equal(xp.to_numpy(t), [[0, 0, 1]])


@pytest.mark.parametrize(
    ("t", "error", "match"),
    [
        (np.array([0, 3]), ArgumentError, "from 0 to 2 for 3 classes, got labels from 0 to 3"),
        (np.array([-1, 0]), ArgumentError, "got labels from -1 to 0"),
        (np.zeros((2, 4)), ShapeError, r"expected \(2, 3\), or labels \(N,\)"),
        (np.zeros(2), DTypeError, "must be integers"),
        (np.zeros((2, 3), np.float32), OperationError, "t is numpy float32"),
    ],
)
def test_labels_that_cannot_be_mixed(t, error, match):
    with pytest.raises(error, match=match):
        MixUp(classes=3)(np.ones((2, 1, 2, 2)), t, np.random.default_rng(0))


def test_an_invalid_label_on_a_device_makes_its_row_nan():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    x, t = strict.ones((3, 1, 2, 2), device=device), strict.asarray([0, 5, 1], device=device)
    params = MixUpParams(np.ones(3), np.arange(3))
    with np.errstate(invalid="ignore"):
        mixed = backend.to_numpy(MixUp(classes=3).targets(t, params, x))
    np.testing.assert_array_equal(mixed, [[1, 0, 0], [np.nan] * 3, [0, 1, 0]])
