"""What a classifier confuses, and the images it gets wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, to_numpy
from xpnet.layers.data_format import FORMATS, to_nchw
from xpnet.viz._drawing import axes_for, picture, show

__all__ = ["misclassified", "plot_confusion_matrix", "plot_misclassified"]

MANY = 30  # classes; with more, the numbers in the cells could not be read


def plot_confusion_matrix(
    matrix: Array, classes: Sequence[str] | None = None, *, normalize: bool = False, ax: Any = None
) -> Any:
    """Draw how often each true class (row) was taken for each class (column).

    Parameters
    ----------
    matrix : array (K, K) of int
        Counts, on any backend; row i, column j: samples of class i that were classified as j.
    classes : sequence of K str, optional
        By default their numbers.
    normalize : bool, default False
        Show fractions of each true class in place of counts; a class without samples has zeros.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib.figure.Figure
        With more than 30 classes the colours alone, without numbers.

    Raises
    ------
    ValueError
        If the matrix is not square or does not hold counts, or the names are not K.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.viz import plot_confusion_matrix
    >>> figure = plot_confusion_matrix(np.array([[8, 2], [1, 9]]), ("cat", "dog"))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['8', '2', '1', '9']
    """
    counts = to_numpy(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"plot_confusion_matrix: the matrix must be square (K, K), got shape {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(f"plot_confusion_matrix: the matrix must hold counts, integers from 0 on; got\n{counts}")
    K = len(counts)
    names = [str(k) for k in range(K)] if classes is None else list(classes)
    if len(names) != K:
        raise ValueError(f"plot_confusion_matrix: {K} classes in the matrix but {len(names)} names")
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalize else counts
    side = max(3.5, min(0.45 * K + 1.5, 14.0))
    (axes,) = axes_for("plot_confusion_matrix", ax, 1, "for the matrix", size=(side, side))
    axes.imshow(values, cmap="Blues", vmin=0)
    axes.set_xticks(range(K), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(K), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for i, j in np.ndindex(values.shape) if K <= MANY else ():
        text = f"{values[i, j]:.2f}" if normalize else str(values[i, j])
        colour = "white" if values[i, j] > values.max() / 2 else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")
    return axes.figure


def misclassified(t: Array, y: Array) -> np.ndarray:
    """Return the positions of the wrong samples, those first of whose wrong class the model was surest.

    Parameters
    ----------
    t : array (N,) of int
        True classes, on any backend.
    y : array (N, K), float
        Probabilities or, if the rows are none, scores: then their softmax is how sure the model was.

    Returns
    -------
    numpy.ndarray (wrong,) of int

    Raises
    ------
    ValueError
        If the shapes do not fit, or a label is no class.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.viz import misclassified
    >>> misclassified(np.array([0, 0, 1]), np.array([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2]]))
    array([2, 0])
    """
    t, p = to_numpy(t), _probabilities(to_numpy(y))
    if p.ndim != 2 or t.shape != p.shape[:1]:
        raise ValueError(f"misclassified: t must be (N,) and y (N, K), got shapes {t.shape} and {p.shape}")
    if t.dtype.kind not in "iu" or (t.size and not 0 <= t.min() <= t.max() < p.shape[1]):
        raise ValueError(f"misclassified: t must be integers from 0 to {p.shape[1] - 1}, got {t.dtype} {t[:10]}")
    (wrong,) = np.nonzero(p.argmax(axis=1) != t)
    return wrong[np.argsort(-p[wrong].max(axis=1), kind="stable")]


def _probabilities(y: np.ndarray) -> np.ndarray:
    y = y.astype(np.float64)
    if y.ndim != 2 or ((y >= 0.0).all() and np.allclose(y.sum(axis=1), 1.0, atol=1e-2)):
        return y
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def plot_misclassified(
    x: Array,
    t: Array,
    y: Array,
    classes: Sequence[str] | None = None,
    *,
    limit: int = 25,
    data_format: str = "NCHW",
    ax: Any = None,
) -> Any:
    """Draw the images that a model got wrong, those first of which it was surest.

    Parameters
    ----------
    x : array (N, C, H, W)
        Images, on any backend, of any type.
    t : array (N,) of int
        True classes.
    y : array (N, K), float
        Probabilities or scores.
    classes : sequence of K str, optional
        Names for the titles, ``true > predicted (how sure)``; by default their numbers.
    limit : int, default 25
        Draw so many at most.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
    ax : sequence of matplotlib axes, one for each image drawn, optional

    Returns
    -------
    matplotlib.figure.Figure
        If none is wrong, one axes that says so.

    Raises
    ------
    ValueError
        If shapes, labels, names or settings do not fit, or there are too few axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.viz import plot_misclassified
    >>> x, y = np.zeros((3, 1, 8, 8)), np.array([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2]])
    >>> figure = plot_misclassified(x, np.array([0, 0, 1]), y, ("cat", "dog"))
    >>> [ax.get_title() for ax in figure.axes]
    ['dog > cat (80 %)', 'cat > dog (60 %)']
    """
    if data_format not in FORMATS:
        raise ValueError(f"plot_misclassified: data_format must be one of {', '.join(FORMATS)}, got {data_format!r}")
    if limit < 1:
        raise ValueError(f"plot_misclassified: limit must be at least 1, got {limit!r}")
    if len(x.shape) != 4 or x.shape[0] != t.shape[0]:
        raise ValueError(
            f"plot_misclassified: x must be as many images (4 axes) as labels, got shapes {tuple(x.shape)} "
            f"and {tuple(t.shape)}"
        )
    wrong = misclassified(t, y)[:limit]
    p, true = _probabilities(to_numpy(y)), to_numpy(t)
    names = [str(k) for k in range(p.shape[1])] if classes is None else list(classes)
    if len(names) != p.shape[1]:
        raise ValueError(f"plot_misclassified: {p.shape[1]} classes in y but {len(names)} names")
    count = max(len(wrong), 1)
    columns = min(math.ceil(math.sqrt(count)), 8)
    axes = axes_for("plot_misclassified", ax, count, "one for each image", columns=columns, size=(1.7, 1.9))
    images = to_numpy(to_nchw(x, data_format))
    for one, i in zip(axes, wrong, strict=False):
        k = p[i].argmax()
        show(one, picture(images[i]), f"{names[true[i]]} > {names[k]} ({p[i, k]:.0%})".replace("%", " %"))
        one.title.set_fontsize("small")
    if not len(wrong):
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, f"none of {len(true)} is wrong", ha="center", va="center")
    return axes[0].figure
