"""Losses: against plain loops and torch, every form of target, the ends of the range, refusals."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tests.reference import naive_cross_entropy, naive_softmax, torch_gradients
from xpnet import backend
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, NonFiniteError, ShapeError
from xpnet.functional import (
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from xpnet.testing import assert_close

LABELS = np.array([2, 0, 3, 3, 1])


def one_hot(labels, K):
    return np.array([[float(k == label) for k in range(K)] for label in labels])


def targets(kind, rng):
    """Return t as it is given, and as the (N, K) probabilities that it means."""
    if kind == "probabilities":
        t = rng.random((5, 4))
        t /= t.sum(axis=1, keepdims=True)
        return t, t
    full = one_hot(LABELS, 4)
    return {"labels": LABELS, "one-hot integers": full.astype(np.int64), "one-hot floats": full}[kind], full


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["labels", "one-hot integers", "one-hot floats", "probabilities"])
def test_cross_entropy_against_loops_and_torch(xp, kind, smoothing, rng):
    logits, (t, full) = rng.standard_normal((5, 4)) * 3, targets(kind, rng)
    smooth = full * (1 - smoothing) + smoothing / 4
    gradient = (naive_softmax(logits) - smooth) / 5
    for dtype in ("float64", "float32"):
        given = xp.asarray(t, dtype if t.dtype.kind == "f" else None)
        loss, ctx = softmax_cross_entropy_forward(xp.asarray(logits, dtype), given, label_smoothing=smoothing)
        assert_close(loss, naive_cross_entropy(logits, smooth), terms=20)
        for dy in (1.0, 3, xp.asarray(0.5, dtype)):
            assert_close(softmax_cross_entropy_backward(dy, ctx), gradient * float(dy), terms=4)

    def torch_cross_entropy(z):
        import torch

        return torch.nn.functional.cross_entropy(z, torch.tensor(full), label_smoothing=smoothing)

    value, (expected,) = torch_gradients(torch_cross_entropy, (logits,), 1.0)
    assert value == pytest.approx(naive_cross_entropy(logits, smooth), rel=1e-12)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint64"])
def test_labels_of_any_integer_type(xp, dtype):
    """More classes than uint8 can count, too: class 1 is not class 257."""
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.backend_name} has no {dtype}")
    labels = [1, 100, 0]
    logits = np.random.default_rng(0).standard_normal((3, 300))
    loss, ctx = softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray(labels, dtype))
    assert_close(loss, naive_cross_entropy(logits, one_hot(labels, 300)), terms=300)
    expected = (naive_softmax(logits) - one_hot(labels, 300)) / 3
    assert_close(softmax_cross_entropy_backward(1.0, ctx), expected, terms=300)


def test_equal_scores_give_the_logarithm_of_the_number_of_classes(xp):
    loss, _ = softmax_cross_entropy_forward(xp.asarray(np.zeros((2, 10))), xp.asarray([3, 7]))
    assert float(loss) == pytest.approx(math.log(10))


def test_the_book_by_hand(xp):
    """Section 4.2 of the book, but for the 1e-7 that it adds: 0.51 for a probability of 0.6, 2.30 for 0.1."""
    y = np.array([[0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.log(y)
    for label, expected in ((2, 0.510825624), (7, 2.302585093)):
        loss, _ = softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray([label]))
        assert float(loss) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "row, label, loss, gradient",
    [
        ([1e3, 0.0], 0, 0.0, [0, 0]),
        ([1e3, 0.0], 1, 1e3, [1, -1]),
        ([-1e3, -1e3], 0, math.log(2), [-0.5, 0.5]),
        ([1e30, -1e30], 0, 0.0, [0, 0]),
        ([0.0, -1e30], 1, 1e30, [1, -1]),
        ([0.0, -math.inf], 0, 0.0, [0, 0]),
        ([0.0, -math.inf, 0.0], 2, math.log(2), [0.5, 0, -0.5]),
    ],
)
def test_cross_entropy_at_the_ends_of_the_range(xp, row, label, loss, gradient, dtype):
    K = len(row)
    for t in ([label], one_hot([label], K).astype(int), one_hot([label], K).astype(dtype)):
        value, ctx = softmax_cross_entropy_forward(xp.asarray([row], dtype), xp.asarray(t))
        assert_close(value, loss)
        assert_close(softmax_cross_entropy_backward(1.0, ctx), [gradient])


def on_host(xp):
    return xp.name not in ("array_api_strict-device1", "cupy")


@pytest.mark.parametrize("labels", [[0, 4], [-1, 3], [100, 0]])
def test_labels_out_of_range(xp, labels):
    """An error where looking costs nothing, and a loss of NaN on a device."""
    logits, t = xp.asarray(np.zeros((2, 4))), xp.asarray(labels)
    if on_host(xp):
        low, high = min(labels), max(labels)
        message = (
            f"softmax_cross_entropy: labels must be from 0 to 3 for 4 classes, got labels from {low} to {high}; check"
        )
        with pytest.raises(ArgumentError, match="^" + re.escape(message)):
            softmax_cross_entropy_forward(logits, t)
        return
    with np.errstate(invalid="ignore"):
        loss, _ = softmax_cross_entropy_forward(logits, t)
    assert np.isnan(xp.to_numpy(loss))


@pytest.mark.parametrize(
    "bad, count, row",
    [({(1, 2): math.nan}, 1, 1), ({(2, 0): math.inf, (2, 3): math.nan}, 2, 2), ({(0, 1): -math.inf}, 1, 0)],
)
def test_logits_that_are_not_finite(xp, bad, count, row):
    logits = np.zeros((3, 4))
    for index, value in bad.items():
        logits[index] = value
    with np.errstate(invalid="ignore"):
        if not on_host(xp):
            loss, _ = softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray([1, 1, 1]))
            assert not np.isfinite(xp.to_numpy(loss))
            return
        message = f"logits holds {count} values that are NaN or infinite, first in row {row}, so the loss is "
        with pytest.raises(NonFiniteError, match="^softmax_cross_entropy: " + re.escape(message)):
            softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray([1, 1, 1]))


FULL = one_hot([0, 1, 2], 4)


@pytest.mark.parametrize(
    "logits, t, options, error, message",
    [
        (np.zeros(4), [0], {}, ShapeError, "logits must have 2 axes (N, K), got shape (4,)"),
        (np.zeros((2, 4, 1)), [0, 1], {}, ShapeError, "logits must have 2 axes (N, K), got shape (2, 4, 1)"),
        (np.zeros((0, 4)), np.zeros(0, int), {}, ShapeError, "the batch is empty: logits has shape (0, 4)"),
        (np.zeros((3, 4)), [0, 1], {}, ShapeError, "t must have shape (N,) = (3,) or (N, K) = (3, 4) to go with the"),
        (
            np.zeros((3, 4)),
            FULL[:2],
            {},
            ShapeError,
            "t must have shape (N,) = (3,) or (N, K) = (3, 4) like the logits",
        ),
        (np.zeros((3, 4)), FULL.T, {}, ShapeError, "t must have shape (N,) = (3,) or (N, K) = (3, 4) like the logits"),
        (np.zeros((3, 4)), [[0], [1], [2]], {}, ShapeError, "t must have shape (N,) = (3,) or (N, K) = (3, 4) like"),
        (np.zeros((3, 4)), 1, {}, ShapeError, "t must have shape (N,) = (3,) or (N, K) = (3, 4) to go with the"),
        (np.zeros((3, 4)), [0.0, 1.0, 2.0], {}, DTypeError, "labels t of shape (N,) must be integers, got "),
        (np.zeros((3, 4)), [True, False, True], {}, DTypeError, "labels t of shape (N,) must be integers, got "),
        (np.zeros((3, 4)), FULL.astype(np.float32), {}, ArrayMismatchError, "logits is "),
        (np.zeros((3, 4)), FULL.astype(bool), {}, ArrayMismatchError, "logits is "),
        (np.zeros((3, 4), int), FULL, {}, DTypeError, "logits must hold floating-point numbers, got "),
        (
            np.zeros((3, 4)),
            FULL,
            {"label_smoothing": 1.0},
            ArgumentError,
            "label_smoothing must be at least 0 and below",
        ),
        (
            np.zeros((3, 4)),
            FULL,
            {"label_smoothing": -0.1},
            ArgumentError,
            "label_smoothing must be at least 0 and below",
        ),
        (
            np.zeros((3, 4)),
            FULL,
            {"label_smoothing": math.nan},
            ArgumentError,
            "label_smoothing must be at least 0 and",
        ),
    ],
)
def test_cross_entropy_refusals(xp, logits, t, options, error, message):
    with pytest.raises(error, match="^softmax_cross_entropy: " + re.escape(message)):
        softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray(t), **options)


# --- mean squared error --------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2, 2), (1, 1)])
def test_squared_error_against_loops_and_torch(xp, shape, reduction, rng):
    y, t = rng.standard_normal(shape), rng.standard_normal(shape)
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(y.ravel(), t.ravel(), strict=True)]
    divisor = y.size if reduction == "mean" else 2 * shape[0]
    value, gradient = math.fsum(squares) / divisor, 2 * (y - t) / divisor
    for dtype in ("float64", "float32"):
        loss, ctx = mean_squared_error_forward(xp.asarray(y, dtype), xp.asarray(t, dtype), reduction=reduction)
        assert_close(loss, value, terms=y.size)
        for dy in (1.0, 2, xp.asarray(-0.5, dtype)):
            assert_close(mean_squared_error_backward(dy, ctx), gradient * float(dy))
    f = lambda y, t: ((y - t) ** 2).sum() / divisor
    assert np.allclose(torch_gradients(f, (y, t), 1.0)[1][0], gradient, atol=1e-12)


def test_the_half_sum_of_the_book(xp):
    """Section 4.2 of the book: 0.0975 for the right digit, 0.5975 for a wrong one."""
    t = np.eye(10)[2:3]
    for y, expected in (
        ([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0], 0.0975),
        ([0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0], 0.5975),
    ):
        loss, _ = mean_squared_error_forward(xp.asarray([y]), xp.asarray(t), reduction="half_sum")
        assert float(loss) == pytest.approx(expected)


def test_half_floats_are_summed_in_float32():
    """The sum of 1000 squares of 10 is beyond float16; its mean is not."""
    y = np.full((1000, 1), 10, np.float16)
    loss, ctx = mean_squared_error_forward(y, np.zeros_like(y))
    assert loss.dtype == np.float32
    assert_close(loss, 100.0, terms=1000)
    assert mean_squared_error_backward(np.float32(1.0), ctx).dtype == np.float16


def test_half_floats_are_subtracted_in_float32():
    """The difference of these two is beyond float16; the loss and, of many, the gradient are not."""
    y = np.zeros((1000, 1), np.float16)
    y[0] = 6e4
    loss, ctx = mean_squared_error_forward(y, -y)
    assert_close(loss, (2.0 * float(y[0, 0])) ** 2 / 1000, terms=1000)
    assert_close(mean_squared_error_backward(1.0, ctx)[0, 0], np.float16(4.0 * float(y[0, 0]) / 1000))


@pytest.mark.parametrize(
    "y, t, message",
    [
        (
            [[1.0], [math.nan]],
            [[1.0], [1.0]],
            "y holds 1 values that are NaN or infinite, first in row 1, so the loss is nan",
        ),
        (
            [[1.0], [1.0]],
            [[-math.inf], [1.0]],
            "t holds 1 values that are NaN or infinite, first in row 0, so the loss is inf",
        ),
        ([1e200], [0.0], "the loss is inf although its inputs are finite; scale the inputs down"),
    ],
)
def test_squared_error_that_is_not_finite(xp, y, t, message):
    with np.errstate(over="ignore"):
        if not on_host(xp):
            assert not np.isfinite(xp.to_numpy(mean_squared_error_forward(xp.asarray(y), xp.asarray(t))[0]))
            return
        with pytest.raises(NonFiniteError, match="^mean_squared_error: " + re.escape(message)):
            mean_squared_error_forward(xp.asarray(y), xp.asarray(t))


@pytest.mark.parametrize(
    "y, t, options, error, message",
    [
        (np.ones((3, 2)), np.ones((2, 3)), {}, ShapeError, "y has shape (3, 2) but t has (2, 3); they must be equal"),
        (np.ones((3, 1)), np.ones(3), {}, ShapeError, "y has shape (3, 1) but t has (3,); they must be equal"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, ShapeError, "the batch is empty: y has shape (0, 2)"),
        (np.ones(()), np.ones(()), {}, ShapeError, "the batch is empty: y has shape ()"),
        (
            np.ones(3),
            np.ones(3),
            {"reduction": "sum"},
            ArgumentError,
            "reduction must be one of mean, half_sum, got 'sum'",
        ),
        (np.ones(3), np.ones(3, int), {}, ArrayMismatchError, "y is "),
        (np.ones(3, int), np.ones(3), {}, DTypeError, "y must hold floating-point numbers, got "),
    ],
)
def test_squared_error_refusals(xp, y, t, options, error, message):
    with pytest.raises(error, match="^mean_squared_error: " + re.escape(message)):
        mean_squared_error_forward(xp.asarray(y), xp.asarray(t), **options)


def test_strict_device_stands_for_a_gpu():
    """The tests above rely on it: values are looked at on the CPU and nowhere else."""
    pytest.importorskip("array_api_strict")
    for name, expected in (("numpy", True), ("array_api_strict", True), ("array_api_strict:device1", False)):
        with backend.using(name):
            assert backend.is_on_host(backend.asarray([1.0])) is expected
