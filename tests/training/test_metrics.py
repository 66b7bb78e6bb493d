"""Metrics against scikit-learn, in batches, with labels and one-hot rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from xpnet.layers import Dense
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.training import Accuracy, Checkpoint, ConfusionMatrix, EarlyStopping, Metric, TopK, Trainer, evaluate
from xpnet.training.metrics import by_name

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle")


def scores(rng: np.random.Generator, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((n, classes)).astype(np.float32), rng.integers(0, classes, n)


def in_batches(metric: Metric, xp, y: np.ndarray, t: np.ndarray) -> Metric:
    for part in (slice(0, 10), slice(10, 11), slice(11, None)):
        metric.update(xp.asarray(y[part]), xp.asarray(t[part]))
    return metric


@pytest.mark.parametrize("one_hot", [False, True])
def test_equal_to_scikit_learn(xp, rng, one_hot) -> None:
    y, t = scores(rng, 60, 5)
    given = np.eye(5, dtype=np.float32)[t] if one_hot else t
    found = y.argmax(axis=1)
    assert in_batches(Accuracy(), xp, y, given).result() == sklearn_metrics.accuracy_score(t, found)
    for k in (1, 2, 3, 4):
        expected = sklearn_metrics.top_k_accuracy_score(t, y, k=k, labels=range(5))
        assert in_batches(TopK(k), xp, y, given).result() == pytest.approx(expected)
    assert in_batches(TopK(5), xp, y, given).result() == 1.0
    matrix = in_batches(ConfusionMatrix(), xp, y, given)
    assert matrix.result().dtype == np.int64
    assert np.array_equal(matrix.result(), sklearn_metrics.confusion_matrix(t, found, labels=range(5)))
    p, r, f, n = sklearn_metrics.precision_recall_fscore_support(t, found, labels=range(5), zero_division=np.nan)
    for own, expected in zip(matrix.scores(), (p, r, f, n), strict=True):
        np.testing.assert_allclose(own, expected)


def test_classes_that_never_occur_have_no_recall(rng) -> None:
    matrix = ConfusionMatrix()
    matrix.update(np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 1, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = matrix.scores()
    np.testing.assert_array_equal(result.precision, [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(result.recall, [1.0, 0.5, np.nan])
    assert np.isnan(result.f1[2])
    table = result.table(["cat", "dog", "hedgehog"]).splitlines()
    assert table[0].split() == ["class", "precision", "recall", "f1", "samples"]
    assert table[2].split() == ["dog", "1.0000", "0.5000", "0.6667", "2"]
    assert len({len(line) for line in table}) == 1


def test_reset_begins_anew(rng) -> None:
    y, t = scores(rng, 20, 3)
    for metric in (Accuracy(), TopK(2), ConfusionMatrix()):
        metric.update(y[:5], t[:5])
        metric.reset()
        metric.update(y, t)
        fresh = by_name(metric.name)
        fresh.update(y, t)
        assert np.array_equal(metric.result(), fresh.result())


def test_rows_left_out_do_not_count(xp, rng) -> None:
    y, t = scores(rng, 40, 4)
    t[::3] = -1
    kept = t >= 0
    result = in_batches(Accuracy(ignore_index=-1), xp, y, t).result()
    assert result == sklearn_metrics.accuracy_score(t[kept], y.argmax(axis=1)[kept])
    # a class that exists may be left out too
    t = np.abs(t)
    result = in_batches(Accuracy(ignore_index=1), xp, y, t).result()
    assert result == sklearn_metrics.accuracy_score(t[t != 1], y.argmax(axis=1)[t != 1])


@pytest.mark.parametrize(
    ("dtype", "ignore_index"), [("int64", -1), ("int64", 255), ("uint8", 255), ("uint8", -1), ("uint8", 1)]
)
def test_rows_left_out_of_every_metric(xp, rng, dtype, ignore_index) -> None:
    y, t = scores(rng, 40, 4)
    if dtype == "int64" or ignore_index >= 0:
        t[::3] = ignore_index
    kept = t != ignore_index
    t = t.astype(dtype)
    found = y.argmax(axis=1)
    accuracy, top, matrix = (
        in_batches(by_name(name, ignore_index), xp, y, t).result() for name in ("accuracy", "top2", "confusion_matrix")
    )
    assert accuracy == sklearn_metrics.accuracy_score(t[kept], found[kept])
    assert top == pytest.approx(sklearn_metrics.top_k_accuracy_score(t[kept], y[kept], k=2, labels=range(4)))
    assert np.array_equal(matrix, sklearn_metrics.confusion_matrix(t[kept], found[kept], labels=range(4)))


def test_a_label_of_no_class_is_never_found(xp) -> None:
    y = np.array([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]], np.float32)
    for k in (1, 2):
        top = TopK(k)
        top.update(xp.asarray(y), xp.asarray(np.array([-1, 255, 1])))
        assert top.counts() == (1, 3)


def test_metrics_by_name_leave_out_what_the_loss_leaves_out(rng) -> None:
    x, t = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    t[::4] = -1
    model, loss = Dense(3).build((4,), rng=1), SoftmaxCrossEntropy(ignore_index=-1)
    names = ["accuracy", "top1", "confusion_matrix"]
    for measured in (
        evaluate(model, (x, t), loss=loss, metrics=names, batch_size=16),
        Trainer(model, loss=loss, metrics=names).evaluate((x, t)),
    ):
        found = model.predict(x).argmax(axis=1)
        assert measured.accuracy == pytest.approx((found == t)[t >= 0].mean())
        assert measured.metrics["accuracy"] == measured.metrics["top1"] == measured.accuracy
        assert measured.metrics["confusion_matrix"].sum() == (t >= 0).sum()
    own = evaluate(model, (x, t), loss=loss, metrics=[Accuracy()]).metrics["accuracy"]
    assert own == (found == t).mean()  # a metric that is given keeps its own setting


@pytest.mark.parametrize("result", [np.float32(2.0), np.int64(2), np.asarray(2.0)])
def test_a_result_that_is_a_number_of_numpy_is_one_in_the_history(tmp_path, result) -> None:
    class Two(Accuracy):
        name = "two"

        def result(self):
            return result

    data = np.eye(2, dtype=np.float32), np.array([0, 1])
    callbacks = EarlyStopping("two", patience=0), Checkpoint(tmp_path, best="two")
    history = Trainer(Dense(2), metrics=[Two()], callbacks=callbacks).fit(data, data, epochs=5, verbose=False)
    assert history["two"] == [2, 2]
    assert {type(value) for value in history["two"]} <= {int, float}


def test_nothing_counted() -> None:
    assert np.isnan(Accuracy().result())
    assert np.isnan(TopK(2).result())
    with pytest.raises(ValueError, match=r"ConfusionMatrix: nothing counted yet; call update"):
        ConfusionMatrix().result()


def test_names() -> None:
    assert by_name("top7").k == 7
    for wrong in (None, 3):
        with pytest.raises(ValueError, match=rf"metrics: expected the name of a metric, .*, or a Metric, got {wrong}"):
            Trainer(Dense(3), metrics=[wrong])
    with pytest.raises(ValueError, match=r"metrics: Accuracy is a class; make a metric of it: Accuracy\(\.\.\.\)"):
        Trainer(Dense(3), metrics=[Accuracy])
    with pytest.raises(ValueError, match="metrics: expected a list of names and metrics, got 'top2'"):
        Trainer(Dense(3), metrics="top2")
    with pytest.raises(ValueError, match=r"no metric 'f2'; there are accuracy, confusion_matrix and top1, top2"):
        by_name("f2")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        by_name("top0")
    data = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(ValueError, match="'top2' is there twice"):
        evaluate(Dense(3), data, metrics=["top2", TopK(2)])


def test_evaluate_measures_them_over_all_batches(xp, rng) -> None:
    x, t = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    model = Dense(3).build((4,), rng=1)
    measured = evaluate(model, (x, t), metrics=["confusion_matrix", TopK(2)], batch_size=16)
    found = xp.to_numpy(model(xp.asarray(x))).argmax(axis=1)
    assert set(measured.metrics) == {"confusion_matrix", "top2"}
    assert np.array_equal(measured.metrics["confusion_matrix"], sklearn_metrics.confusion_matrix(t, found))
    assert measured.accuracy == measured.metrics["confusion_matrix"].trace() / 50


@pytest.mark.parametrize(
    "settings", [{"class_weights": [1.0, 0.25, 3.0]}, {"ignore_index": 1}, {"class_weights": [1, 0, 2.0]}]
)
def test_evaluate_weighs_batches_as_the_loss_weighs_samples(xp, rng, settings) -> None:
    x, t = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    t[:16] = 1  # a batch of which nothing may count
    model, loss = Dense(3).build((4,), rng=1), SoftmaxCrossEntropy(**settings)
    measured = evaluate(model, (x, t), loss=loss, batch_size=16)
    whole = loss(model(xp.asarray(x)), xp.asarray(t))
    assert measured.loss == pytest.approx(float(xp.to_numpy(whole)), rel=1e-5)
    if "ignore_index" in settings:
        found = xp.to_numpy(model(xp.asarray(x))).argmax(axis=1)
        assert measured.accuracy == pytest.approx((found == t)[t != 1].mean())


def test_evaluate_says_when_no_sample_counts(rng) -> None:
    data = np.ones((4, 2), np.float32), np.full(4, -1)
    with pytest.raises(ValueError, match="evaluate: no sample counts"):
        evaluate(Dense(3), data, loss=SoftmaxCrossEntropy(ignore_index=-1))


def test_scores_that_are_no_numbers_find_nothing(xp):
    """A run that has diverged must not look perfect."""
    metric = TopK(2)
    metric.update(xp.asarray(np.array([[np.nan] * 3, [1.0, 2.0, 3.0]], np.float32)), xp.asarray([0, 2]))
    assert metric.result() == 0.5
