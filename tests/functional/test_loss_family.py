"""Weighted and masked cross entropy, and the losses beyond the book's: against torch, at the ends, refusals."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet.functional as F
from tests.reference import torch_gradients
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, NonFiniteError, ShapeError

PRECISION = pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 3e-5)])


def torch():
    return pytest.importorskip("torch", reason="torch is the oracle here")


def on_host(xp):
    return xp.name not in ("array_api_strict-device1", "cupy")


def check(xp, name, arrays, oracle, rtol, **options):
    """Compare loss and gradient of the first array with `oracle`, for dy of 1 and others."""
    value, (gradient,) = torch_gradients(oracle, arrays[:1], 1.0)
    loss, ctx = getattr(F, f"{name}_forward")(*(xp.asarray(a) for a in arrays), **options)
    dtype = arrays[0].dtype.name
    assert loss.shape == ()
    assert xp.to_numpy(loss).dtype == dtype
    np.testing.assert_allclose(xp.to_numpy(loss), value, rtol=rtol, atol=rtol)
    for dy in (1.0, 3, xp.asarray(-0.5, dtype)):
        got = xp.to_numpy(getattr(F, f"{name}_backward")(dy, ctx))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, gradient * float(dy), rtol=rtol, atol=rtol)


# --- softmax cross entropy -----------------------------------------------------------------------


@PRECISION
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore_index", [None, -100, 2, 255])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_against_torch(xp, weighted, ignore_index, smoothing, dtype, rtol, rng):
    logits = (rng.standard_normal((7, 4)) * 3).astype(dtype)
    t = rng.integers(0, 4, 7)
    if ignore_index is not None:
        t[[1, 4]] = ignore_index
    weights = (rng.random(4) + 0.2).astype(dtype) if weighted else None
    tensor = torch().tensor

    def oracle(z):
        return torch().nn.functional.cross_entropy(
            z,
            tensor(t),
            weight=None if weights is None else tensor(weights.astype(np.float64)),
            ignore_index=-1000 if ignore_index is None else ignore_index,
            label_smoothing=smoothing,
        )

    arrays = (logits, t) if weights is None else (logits, t, weights)
    check(xp, "softmax_cross_entropy", arrays, oracle, rtol, ignore_index=ignore_index, label_smoothing=smoothing)


def test_one_hot_rows_weigh_what_labels_weigh(xp, rng):
    logits, labels, weights = rng.standard_normal((5, 3)), rng.integers(0, 3, 5), rng.random(3) + 0.1
    values = []
    for t in (labels, np.eye(3, dtype=np.int64)[labels], np.eye(3)[labels]):
        loss, ctx = F.softmax_cross_entropy_forward(
            xp.asarray(logits), xp.asarray(t), xp.asarray(weights), label_smoothing=0.1
        )
        values.append((float(loss), xp.to_numpy(F.softmax_cross_entropy_backward(1.0, ctx))))
    for value, gradient in values[1:]:
        assert value == pytest.approx(values[0][0], rel=1e-14)
        np.testing.assert_allclose(gradient, values[0][1], atol=1e-15)


def test_rows_left_out_may_hold_anything(xp):
    logits = np.array([[1.0, 2.0], [math.nan, 0.0], [0.5, -math.inf]])
    with np.errstate(invalid="ignore"):
        loss, ctx = F.softmax_cross_entropy_forward(xp.asarray(logits), xp.asarray([0, 7, 7]), ignore_index=7)
    assert float(loss) == pytest.approx(math.log1p(math.e))
    gradient = xp.to_numpy(F.softmax_cross_entropy_backward(1.0, ctx))
    s = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(gradient, [[-s, s], [0, 0], [0, 0]], atol=1e-15)
    assert not gradient[1:].any()  # nothing of them in the gradients of the weights, not even rounding


@pytest.mark.parametrize(
    "labels, weights, message",
    [
        (
            [9, 9],
            None,
            "there is nothing to average: every label is the ignore_index 9 or of a class whose weight is 0",
        ),
        ([1, 9], [1.0, 0.0], "there is nothing to average: every label is the ignore_index 9 or of a class whose"),
        ([2, 9], None, "labels must be from 0 to 1 for 2 classes, got labels from 2 to 2"),
    ],
)
def test_nothing_left_or_labels_out_of_range(xp, labels, weights, message):
    arrays = [xp.asarray(np.zeros((2, 2))), xp.asarray(labels)] + ([] if weights is None else [xp.asarray(weights)])
    if on_host(xp):
        with pytest.raises(ArgumentError, match="^softmax_cross_entropy: " + re.escape(message)):
            F.softmax_cross_entropy_forward(*arrays, ignore_index=9)
        return
    with np.errstate(invalid="ignore"):
        assert np.isnan(xp.to_numpy(F.softmax_cross_entropy_forward(*arrays, ignore_index=9)[0]))


@pytest.mark.parametrize(
    "t, weights, options, error, message",
    [
        (
            np.eye(3)[:2],
            None,
            {"ignore_index": 0},
            ArgumentError,
            "ignore_index needs labels t of shape (N,) = (2,)",
        ),
        (
            [0, 1],
            np.ones(2),
            {},
            ShapeError,
            "class_weights must have shape (K,) = (3,) to go with the logits",
        ),
        ([0, 1], np.ones((1, 3)), {}, ShapeError, "class_weights must have shape (K,) = (3,) to go with the logits"),
        ([0, 1], np.ones(3, np.float32), {}, ArrayMismatchError, "logits is "),
        ([0, 1], np.ones(3, int), {}, ArrayMismatchError, "logits is "),
    ],
)
def test_cross_entropy_refusals(xp, t, weights, options, error, message):
    weights = None if weights is None else xp.asarray(weights)
    with pytest.raises(error, match="^softmax_cross_entropy: " + re.escape(message)):
        F.softmax_cross_entropy_forward(xp.asarray(np.zeros((2, 3))), xp.asarray(t), weights, **options)


def test_weights_that_are_not_finite(xp):
    arrays = [xp.asarray(a) for a in (np.zeros((2, 2)), [0, 1], [1.0, math.nan])]
    if on_host(xp):
        message = r"^softmax_cross_entropy: class_weights holds 1 values that are NaN or infinite, first in row 1, so"
        with pytest.raises(NonFiniteError, match=message):
            F.softmax_cross_entropy_forward(*arrays)
    else:
        assert np.isnan(xp.to_numpy(F.softmax_cross_entropy_forward(*arrays)[0]))


# --- the others against torch ----------------------------------------------------------------------

SHAPES = pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2, 2), (1, 1)])


@PRECISION
@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["probabilities", "floats", "integers"])
def test_binary_cross_entropy_against_torch(xp, kind, weighted, shape, dtype, rtol, rng):
    z = (rng.standard_normal(shape) * 4).astype(dtype)
    t = rng.random(shape).astype(dtype) if kind == "probabilities" else rng.integers(0, 2, shape)
    t = t if kind != "floats" else t.astype(dtype)
    weights = (rng.random(shape[-1]) * 3).astype(dtype)
    wide = [torch().tensor(a.astype(np.float64)) for a in (t, weights)]
    oracle = lambda z: torch().nn.functional.binary_cross_entropy_with_logits(
        z, wide[0], pos_weight=wide[1] if weighted else None
    )
    check(xp, "binary_cross_entropy", (z, t, weights) if weighted else (z, t), oracle, rtol)


@PRECISION
@SHAPES
def test_regression_against_torch(xp, shape, dtype, rtol, rng):
    y, t = (rng.standard_normal((2, *shape)) * 2).astype(dtype)
    target = torch().tensor(t.astype(np.float64))
    functional = torch().nn.functional
    check(xp, "mean_absolute_error", (y, t), lambda y: functional.l1_loss(y, target), rtol)
    for delta in (0.3, 1.0, 2.5):
        check(xp, "huber", (y, t), lambda y: functional.huber_loss(y, target, delta=delta), rtol, delta=delta)


@PRECISION
@SHAPES
@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_hinge_against_torch(xp, kind, shape, dtype, rtol, rng):
    y, t = (rng.standard_normal(shape) * 2).astype(dtype), 2 * rng.integers(0, 2, shape) - 1
    sign = torch().tensor(t.astype(np.float64))
    check(xp, "hinge", (y, t if kind == "integers" else t.astype(dtype)), lambda y: (1 - sign * y).relu().mean(), rtol)


@PRECISION
@SHAPES
def test_kl_divergence_against_torch(xp, shape, dtype, rtol, rng):
    y, t = np.log(rng.random(shape) + 0.1).astype(dtype), rng.random(shape).astype(dtype)
    t.flat[0] = 0.0
    target = torch().tensor(t.astype(np.float64))
    oracle = lambda y: torch().nn.functional.kl_div(y, target, reduction="batchmean")
    check(xp, "kl_divergence", (y, t), oracle, rtol)


@settings(max_examples=40)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_shape(shape, seed):
    rng, functional, tensor = np.random.default_rng(seed), torch().nn.functional, torch().tensor
    y, t, p = rng.standard_normal(shape) * 3, rng.standard_normal(shape), rng.random(shape)
    for name, target, oracle in (
        ("binary_cross_entropy", p, lambda y: functional.binary_cross_entropy_with_logits(y, tensor(p))),
        ("hinge", np.sign(t), lambda y: (1 - tensor(np.sign(t)) * y).relu().mean()),
        ("huber", t, lambda y: functional.huber_loss(y, tensor(t))),
        ("mean_absolute_error", t, lambda y: functional.l1_loss(y, tensor(t))),
        ("kl_divergence", p, lambda y: functional.kl_div(y, tensor(p), reduction="batchmean")),
    ):
        value, (gradient,) = torch_gradients(oracle, (y,), 1.0)
        loss, ctx = getattr(F, f"{name}_forward")(y, target)
        np.testing.assert_allclose(loss, value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(getattr(F, f"{name}_backward")(1.0, ctx), gradient, rtol=1e-9, atol=1e-9)


# --- ends of the range -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    "name, y, t, loss, gradient",
    [
        ("binary_cross_entropy", 1e3, 1.0, 0.0, 0.0),
        ("binary_cross_entropy", -1e3, 1.0, 1e3, -1.0),
        ("binary_cross_entropy", 1e30, 0.0, 1e30, 1.0),
        ("binary_cross_entropy", -1e30, 0.0, 0.0, 0.0),
        ("hinge", 1e30, 1.0, 0.0, 0.0),
        ("hinge", 1e30, -1.0, 1e30, 1.0),
        ("huber", 1e30, -1e30, 2e30, 1.0),
        ("huber", 1e-4, 0.0, 5e-9, 1e-4),
        ("mean_absolute_error", 1e30, -1e30, 2e30, 1.0),
        ("mean_absolute_error", 2.0, 2.0, 0.0, 0.0),
        ("mean_squared_error", 1e-4, 0.0, 1e-8, 2e-4),
        ("kl_divergence", -1e3, 1.0, 1e3, -1.0),
        ("kl_divergence", -math.inf, 0.0, 0.0, 0.0),
    ],
)
def test_ends_of_the_range(xp, name, y, t, loss, gradient, dtype):
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.backend_name} has no {dtype}")
    scale = 6e4 / 1e30 if dtype == "float16" and max(abs(y), abs(t)) == 1e30 else 1.0
    if scale != 1.0:  # the largest of float16; differences of two are beyond it and must not be
        y, t, loss = (v * scale if abs(v) >= 1e30 else v for v in (y, t, loss))
    value, ctx = getattr(F, f"{name}_forward")(xp.asarray([y], dtype), xp.asarray([t], dtype))
    assert xp.to_numpy(value).dtype == ("float32" if dtype == "float16" else dtype)
    np.testing.assert_allclose(xp.to_numpy(value), loss, rtol=2e-3)
    got = xp.to_numpy(getattr(F, f"{name}_backward")(1.0, ctx))
    np.testing.assert_allclose(got, [gradient], rtol=2e-3, atol=1e-12)


def test_small_losses_keep_their_digits(xp):
    """No difference of large numbers: the loss of a sure answer is exp(-30), to the last digits."""
    for z, t in ((30.0, 1.0), (-30.0, 0.0)):
        loss, _ = F.binary_cross_entropy_forward(xp.asarray([z]), xp.asarray([t]))
        assert float(loss) == pytest.approx(math.log1p(math.exp(-30)), rel=1e-14)


# --- refusals ------------------------------------------------------------------------------------

ONE = np.ones((3, 2))


@pytest.mark.parametrize(
    "name, t, message",
    [
        (
            "binary_cross_entropy",
            [1.0, 1.5],
            "targets must be from 0 to 1, got targets from 1 to 1.5; they are",
        ),
        ("binary_cross_entropy", [-1, 1], "targets must be from 0 to 1, got targets from -1 to 1; they are 1 for yes"),
        ("hinge", [0, 1], "targets must be -1 or +1, got targets from 0 to 1; of labels 0 and 1 make 2 * t - 1"),
        ("hinge", [0.5, -1.0], "targets must be -1 or +1, got targets from -1 to 0.5; of labels 0 and 1 make"),
        (
            "kl_divergence",
            [-0.5, 1.0],
            "targets must be at least 0, got targets from -0.5 to 1; they are",
        ),
    ],
)
def test_targets_out_of_range(xp, name, t, message):
    """An error where looking costs nothing, and a loss of NaN on a device."""
    forward, y, t = getattr(F, f"{name}_forward"), xp.asarray([0.5, -0.5]), xp.asarray(t)
    if on_host(xp):
        with pytest.raises(ArgumentError, match=f"^{name}: " + re.escape(message)):
            forward(y, t)
        return
    with np.errstate(invalid="ignore"):
        assert np.isnan(xp.to_numpy(forward(y, t)[0]))


NAMES = ["binary_cross_entropy", "hinge", "huber", "kl_divergence", "mean_absolute_error"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite(xp, name, which):
    arrays = [np.full((3, 2), 0.5), np.ones((3, 2))]
    arrays[which][2, 1] = math.nan
    forward, given = getattr(F, f"{name}_forward"), [xp.asarray(a) for a in arrays]
    if not on_host(xp):
        assert np.isnan(xp.to_numpy(forward(*given)[0]))
        return
    first = "logits" if name == "binary_cross_entropy" else "y"
    message = f"{(first, 't')[which]} holds 1 values that are NaN or infinite, first in row 2, so the loss is nan"
    with pytest.raises(NonFiniteError, match=f"^{name}: " + re.escape(message)):
        forward(*given)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "y, t, error, message",
    [
        (ONE, ONE.T, ShapeError, "{} has shape (3, 2) but t has (2, 3); they must be equal"),
        (ONE, ONE[:, :1], ShapeError, "{} has shape (3, 2) but t has (3, 1); they must be equal"),
        (ONE[:0], ONE[:0], ShapeError, "the batch is empty: {} has shape (0, 2)"),
        (ONE[0, 0], ONE[0, 0], ShapeError, "the batch is empty: {} has shape ()"),
        (ONE, ONE.astype(np.float32), ArrayMismatchError, "{} is "),
        (ONE, ONE.astype(bool), ArrayMismatchError, "{} is "),
        (ONE.astype(int), ONE, DTypeError, "{} must hold floating-point numbers, got "),
    ],
)
def test_refusals(xp, name, y, t, error, message):
    message = message.format("logits" if name == "binary_cross_entropy" else "y")
    with pytest.raises(error, match=f"^{name}: " + re.escape(message)):
        getattr(F, f"{name}_forward")(xp.asarray(y), xp.asarray(t))


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan, math.inf])
def test_huber_needs_a_delta(xp, delta):
    with pytest.raises(ArgumentError, match=rf"^huber: delta must be finite and above 0, got {delta!r}"):
        F.huber_forward(xp.asarray(ONE), xp.asarray(ONE), delta=delta)


def test_positive_weight_goes_with_the_last_axis(xp):
    message = "positive_weight must have shape (K,) = (2,) like the last axis of the logits, got (3,)"
    with pytest.raises(ShapeError, match="^binary_cross_entropy: " + re.escape(message)):
        F.binary_cross_entropy_forward(xp.asarray(ONE), xp.asarray(ONE), xp.asarray(np.ones(3)))
