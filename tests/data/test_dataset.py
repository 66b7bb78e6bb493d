"""The face of a data set, its parts, and the split by classes behind them."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.data import Dataset, stratified_split
from xpnet.errors import DataError


def small_dataset(dtype=np.uint8, max_value=255.0):
    x = np.arange(10 * 2 * 3 * 4).reshape(10, 2, 3, 4).astype(dtype)
    t = np.arange(10) % 3
    return Dataset(x, t, x[:4] + 1, t[:4], ("a", "b", "c"), "small", max_value)


# --- stratified_split ----------------------------------------------------------------------------


def test_stratified_split():
    rng = np.random.default_rng(5)
    for _ in range(200):
        classes = int(rng.integers(1, 8))
        t = rng.integers(0, classes, int(rng.integers(1, 120))) * 3 - 5  # labels need not begin at 0
        fraction, seed = float(rng.uniform(0.01, 0.99)), int(rng.integers(1000))
        rest, chosen = stratified_split(t, fraction, seed)
        np.testing.assert_array_equal(np.sort(np.concatenate([rest, chosen])), np.arange(t.size))
        assert len(chosen) == round(t.size * fraction)
        for k in np.unique(t):
            assert abs(np.sum(t[chosen] == k) - fraction * np.sum(t == k)) < 1 + 1e-9
        again = stratified_split(t.tolist(), fraction, seed)
        np.testing.assert_array_equal(again[1], chosen)
        assert rest.dtype == chosen.dtype == np.int64
        assert np.all(np.diff(rest) > 0)
        assert np.all(np.diff(chosen) > 0)


def test_every_sample_can_be_chosen():
    t = np.arange(20) % 2
    times = np.zeros(20)
    for seed in range(400):
        times[stratified_split(t, 0.25, seed)[1]] += 1
    assert times.sum() == 400 * 5
    assert np.all(np.abs(times - 100) < 45)  # five standard deviations of the binomial


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_split_refuses_fractions(fraction):
    with pytest.raises(ValueError, match="fraction"):
        stratified_split([0, 1], fraction, 0)


@pytest.mark.parametrize("t", [[[0, 1]], [0.0, 1.0], ["a"], 3])
def test_split_refuses_labels(t):
    with pytest.raises(ValueError, match="vector of integers"):
        stratified_split(t, 0.5, 0)


# --- Dataset -------------------------------------------------------------------------------------


def test_dataset_face():
    found = small_dataset()
    assert found.input_shape == (2, 3, 4)
    x, t = found.train
    assert x is found.x_train
    assert found.test.t is found.t_test
    assert t is found.t_train
    assert str(found) == "<Dataset small: 10 train, 4 test, (2, 3, 4) uint8 0..255, 3 classes>"
    with pytest.raises(AttributeError):
        found.name = "other"


def test_limit():
    found = small_dataset()
    few = found.limit(3, 2)
    assert [len(a) for a in (*few.train, *few.test)] == [3, 3, 2, 2]
    np.testing.assert_array_equal(few.x_train, found.x_train[:3])
    assert [len(a) for a in (*found.limit(99).train, *found.limit(1).test)] == [10, 10, 4, 4]
    for count in (0, -1, 2.5, "3", True):
        with pytest.raises(ValueError, match=rf"small\.limit: n_train must be a positive int, got {count!r}"):
            found.limit(count)
        with pytest.raises(ValueError, match=rf"small\.limit: n_test must be a positive int, got {count!r}"):
            found.limit(3, count)
    assert len(found.limit(np.int64(3)).train.t) == 3


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.5, 3.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scaled(dtype, low, high):
    found = small_dataset(dtype, max_value=242.0)
    before = found.x_train.copy()
    scaled = found.scaled(low, high)
    for new, old in ((scaled.x_train, found.x_train), (scaled.x_test, found.x_test)):
        assert new.dtype == np.float32
        np.testing.assert_allclose(new, low + (high - low) * (old.astype(float) / 242), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.x_train, before)
    assert scaled.max_value == high
    assert scaled.name == found.name
    for bad in [(1, 1), (2, 1), (float("nan"), 1)]:
        with pytest.raises(ValueError, match="low < high"):
            found.scaled(*bad)


@pytest.mark.parametrize(
    ("validation", "count"), [(0.2, 12), (0.1, 6), (0.34, 20), (5, 5), (np.int64(30), 30), (57, 57)]
)
@pytest.mark.parametrize("stratified", [True, False])
def test_split(validation, count, stratified):
    x = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    t = np.arange(60) % 3
    whole = Dataset(x, t, x[:4], t[:4], ("a", "b", "c"), "small", 255.0)
    found = whole.split(validation, stratified=stratified, seed=4)
    assert whole.validation is None
    assert str(found) == (
        f"<Dataset small: {60 - count} train, {count} validation, 4 test, (1, 1, 1) uint8 0..255, 3 classes>"
    )
    for part in (found.train, found.validation):
        np.testing.assert_array_equal(part.x.ravel() % 3, part.t)  # each image with its own label
    both = np.concatenate([found.x_train, found.x_validation]).ravel()
    np.testing.assert_array_equal(np.sort(both), np.arange(60))
    assert found.test.x is whole.x_test
    if stratified:
        assert np.all(np.abs(np.bincount(found.t_validation) - count / 3) < 1)
    again = whole.split(validation, stratified=stratified, seed=4)
    np.testing.assert_array_equal(again.x_validation, found.x_validation)
    other = whole.split(validation, stratified=stratified, seed=5)
    assert not np.array_equal(other.x_validation, found.x_validation)


def test_what_is_done_to_a_split_data_set_is_done_to_all_parts():
    found = small_dataset().split(5, stratified=False)
    assert [len(part.t) for part in (found.limit(3).train, found.limit(3).validation, found.limit(3).test)] == [3, 5, 4]
    assert len(found.limit(3, 2, n_validation=1).validation.t) == 1
    scaled = found.scaled()
    assert scaled.x_validation.dtype == np.float32
    np.testing.assert_allclose(scaled.x_validation, found.x_validation / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="n_validation must be a positive int, got 0"):
        found.limit(3, n_validation=0)


@pytest.mark.parametrize("validation", [0, 1.0, -0.1, 10, 11, -3, float("nan"), True, None, "0.1", [0.1]])
def test_split_refuses_shares(validation):
    with pytest.raises(ValueError, match=r"small.split: validation is .* from 1 to 9"):
        small_dataset().split(validation)


def test_split_refusals():
    found = small_dataset()  # classes of 4, 3 and 3 images
    with pytest.raises(DataError, match=r"class 'b' has 3 image\(s\), of which 3 would be for training and 0 for val"):
        found.split(0.1)
    with pytest.raises(DataError, match=r"class 'b' has 3 image\(s\), of which 0 would be for training and 3 for val"):
        found.split(0.9)
    assert len(found.split(0.1, stratified=False).validation.t) == 1
    with pytest.raises(DataError, match=r"validation=0\.04 of 10 images leaves one of the parts empty"):
        found.split(0.04)
    with pytest.raises(DataError, match="5 images are kept for validation already"):
        found.split(5, stratified=False).split(2)
    with pytest.raises(ValueError, match="seed"):
        found.split(0.5, seed=-1)


def test_a_class_that_nobody_has_may_be_missing_from_both_parts():
    good = small_dataset()
    wider = Dataset(*good.train, *good.test, ("a", "b", "c", "d"), "wider", 255.0)
    assert set(wider.split(0.5).t_validation.tolist()) == {0, 1, 2}


def test_scale_is_what_the_loader_wants():
    assert small_dataset(max_value=16.0).scale == (1 / 16, 0.0)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x_train": np.zeros((10, 3, 4), np.uint8)}, r"train part has images of shape \(10, 3, 4\)"),
        ({"x_test": np.zeros((4, 2, 3, 4))}, "test part has images of .* float64"),
        ({"x_test": np.zeros((4, 2, 3, 5), np.uint8)}, r"test images \(2, 3, 5\)"),
        ({"x_test": np.zeros((4, 2, 3, 4), np.float32)}, "test images .* float32"),
        ({"t_train": np.zeros(9, np.int64)}, "10 images and 9 labels"),
        ({"t_train": np.zeros(10, np.uint8)}, "labels of .* uint8"),
        ({"t_test": np.zeros((4, 3), np.int64)}, r"labels of shape \(4, 3\)"),
        ({"t_test": np.array([0, 1, 2, 3])}, "labels from 0 to 3; expected 0 to 2"),
        ({"t_test": np.array([0, 1, 2, -1])}, "labels from -1 to 2"),
        ({"x_validation": np.zeros((1, 2, 3, 4), np.uint8)}, "x_validation and t_validation belong together"),
        ({"x_validation": np.zeros((1, 2, 3, 4)), "t_validation": np.zeros(1, np.int64)}, "validation part .* float64"),
        (
            {"x_validation": np.zeros((1, 2, 3, 5), np.uint8), "t_validation": np.zeros(1, np.int64)},
            r"validation images \(2, 3, 5\)",
        ),
    ],
)
def test_dataset_refuses_what_does_not_fit(changed, match):
    good = small_dataset()
    fields = {name: getattr(good, name) for name in ("x_train", "t_train", "x_test", "t_test")}
    with pytest.raises(DataError, match=match):
        Dataset(**(fields | changed), classes=good.classes, name="bad", max_value=255.0)
