"""The confusion matrix and the images that were got wrong."""

import numpy as np
import pytest

from xpnet.viz import misclassified, plot_confusion_matrix, plot_misclassified


def test_confusion_matrix_shows_counts_rows_being_the_true_class(xp, rng):
    from matplotlib.figure import Figure

    counts = rng.integers(0, 20, (3, 3))
    own = Figure()
    figure = plot_confusion_matrix(xp.asarray(counts, "int64"), ("cat", "dog", "owl"), ax=own.add_subplot())
    assert figure is own
    (ax,) = figure.axes
    np.testing.assert_array_equal(ax.images[0].get_array(), counts)
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (j, i): str(counts[i, j]) for i in range(3) for j in range(3)
    }
    assert ax.get_ylabel() == "true class"
    assert ax.get_xlabel() == "predicted class"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "owl"]


def test_normalised_rows_and_many_classes():
    ax = plot_confusion_matrix(np.array([[3, 1], [0, 0]]), normalize=True).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in ax.texts] == ["0.75", "0.25", "0.00", "0.00"]
    assert not plot_confusion_matrix(np.eye(31, dtype=int)).axes[0].texts
    assert len(plot_confusion_matrix(np.eye(30, dtype=int)).axes[0].texts) == 900


@pytest.mark.parametrize(
    "matrix, classes, message",
    [
        (np.zeros((2, 3), int), None, r"must be square \(K, K\), got shape \(2, 3\)"),
        (np.zeros((0, 0), int), None, "must be square"),
        (np.eye(2), None, "must hold counts, integers from 0 on"),
        (-np.eye(2, dtype=int), None, "must hold counts"),
        (np.eye(2, dtype=int), ("a",), "2 classes in the matrix but 1 names"),
    ],
    ids=["oblong", "empty", "floats", "negative", "names"],
)
def test_bad_matrices(matrix, classes, message):
    with pytest.raises(ValueError, match=message):
        plot_confusion_matrix(matrix, classes)


def test_the_wrong_ones_in_the_order_of_confidence(xp, rng):
    scores = rng.normal(size=(40, 5)) * 3
    t = rng.integers(0, 5, 40)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    wrong = [i for i in range(40) if p[i].argmax() != t[i]]
    expected = sorted(wrong, key=lambda i: -p[i].max())
    assert misclassified(xp.asarray(t, "int64"), xp.asarray(scores, "float64")).tolist() == expected
    assert misclassified(xp.asarray(t, "int64"), xp.asarray(p, "float64")).tolist() == expected
    # logits that differ by a constant are equally sure, whatever their size
    shifted = scores + 100 * rng.random((40, 1))
    assert misclassified(t, shifted).tolist() == expected


def test_a_grid_of_the_wrong_ones(xp, rng):
    from matplotlib.figure import Figure

    x = rng.random((6, 3, 4, 4)).astype(np.float32)
    t = np.array([0, 1, 1, 0, 1, 0])
    y = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.55, 0.45], [0.8, 0.2]])
    figure = plot_misclassified(xp.asarray(x), xp.asarray(t, "int64"), xp.asarray(y, "float64"), ("cat", "dog"))
    assert [ax.get_title() for ax in figure.axes] == ["dog > cat (70 %)", "cat > dog (60 %)", "dog > cat (55 %)"]
    for ax, i in zip(figure.axes, (1, 3, 4), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.moveaxis(x[i], 0, -1))
    own = Figure()
    nhwc = plot_misclassified(np.moveaxis(x, 1, -1), t, y, limit=1, data_format="NHWC", ax=own.add_subplot())
    assert nhwc is own
    np.testing.assert_array_equal(own.axes[0].images[0].get_array(), np.moveaxis(x[1], 0, -1))
    assert own.axes[0].get_title() == "1 > 0 (70 %)"
    right = plot_misclassified(x, y.argmax(axis=1), y)
    assert [text.get_text() for text in right.axes[0].texts] == ["none of 6 is wrong"]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"x": np.zeros((3, 4, 4))},
            r"x must be as many images \(4 axes\) as labels, got shapes \(3, 4, 4\) and \(3,\)",
        ),
        ({"x": np.zeros((2, 1, 4, 4))}, "as many images"),
        ({"t": np.array([0, 1, 2])}, "t must be integers from 0 to 1, got int64"),
        ({"t": np.array([0.0, 1.0, 1.0])}, "t must be integers"),
        ({"y": np.zeros((2, 2))}, r"t must be \(N,\) and y \(N, K\), got shapes \(3,\) and \(2, 2\)"),
        ({"classes": ["a"]}, "2 classes in y but 1 names"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"data_format": "CHWN"}, "data_format must be one of NCHW, NHWC, got 'CHWN'"),
        ({"ax": []}, "3 axes needed, one for each image; got 0"),
    ],
    ids=["shape", "count", "label", "float", "scores", "names", "limit", "format", "axes"],
)
def test_bad_arguments(change, message):
    good = {"x": np.zeros((3, 1, 4, 4)), "t": np.array([0, 1, 1]), "y": np.eye(2)[[1, 0, 0]]}
    with pytest.raises(ValueError, match=message):
        plot_misclassified(**good | change)
