"""Does the gradient check pass what is right, and find what is wrong?"""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import DTypeError
from xpnet.gradcheck import numerical_gradient
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Pool2D, ReLU, Residual, Sequential
from xpnet.losses import MeanSquaredError
from xpnet.testing import check_gradients


def small_model() -> Sequential:
    return Sequential(
        Conv2D(3, 3, padding=1, bias=False), BatchNorm(), ReLU(), Residual(Conv2D(3, 3, padding=1)), Pool2D(2),
        Flatten(), Dropout(0.3), Dense(4),
    )  # fmt: skip


def batch(xp, rng, dtype: str):
    return xp.asarray(rng.standard_normal((3, 2, 6, 6)).astype(dtype)), xp.asarray(rng.integers(0, 4, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_model_passes_on_every_library_and_is_left_alone(xp, rng, dtype) -> None:
    x, t = batch(xp, rng, dtype)
    model = small_model()
    model.forward(x, train=True)  # built, statistics and dropout step moved
    model.forget()
    before = {name: xp.to_numpy(a) for name, a in model.state_dict().items()}
    report = check_gradients(model, x, t, samples=6)
    assert report.passed, str(report)
    assert {w.name for w in report.worst} <= {*before, "x"}
    assert len(report.worst) >= 5
    assert all(np.array_equal(xp.to_numpy(a), before[name]) for name, a in model.state_dict().items())
    assert model[6].step == 1
    assert not any(layer._pending for _, layer in model.named_layers())


@pytest.mark.parametrize(("library", "dtype"), [("numpy", "float16"), ("torch", "bfloat16")])
def test_half_types_are_refused_with_what_to_do(rng, library, dtype) -> None:
    if library != "numpy":
        pytest.importorskip(library)
    with backend.using(library, dtype=dtype):
        x, t = backend.asarray(rng.standard_normal((3, 2, 6, 6)), dtype=dtype), backend.asarray(rng.integers(0, 4, 3))
        with pytest.raises(DTypeError, match=f"expected float64 or float32, got {dtype}: .* compare --dtype {dtype}"):
            check_gradients(small_model(), x, t)
    with pytest.raises(DTypeError, match=r"check_gradients: expected float64 or float32, got int64$"):
        check_gradients(small_model(), np.ones((3, 2, 6, 6), dtype=np.int64), np.zeros(3, dtype=np.int64))


class Wrong(Layer):
    """Doubles, and claims a slope that is 3 % off."""

    def _forward(self, x, train):
        return x * 2.0, None

    def _backward(self, dy, ctx, need_dx):
        return dy * 2.06 if need_dx else None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_three_percent_off_is_found_and_named(rng, dtype) -> None:
    with backend.using("numpy", dtype=dtype):
        model = Sequential({"first": Dense(5), "wrong": Wrong(), "last": Dense(3)}).build((4,), rng=1)
        x = rng.standard_normal((6, 4)).astype(dtype)
        report = check_gradients(model, x, rng.integers(0, 3, 6))
    assert not report.passed
    bad = {w.name for w in report.worst if w.error > report.tolerance}
    assert bad == {"first.W", "first.b", "x"}  # what lies before it, not what comes after
    assert report.worst[0].error == pytest.approx(0.03, rel=0.6)
    assert "WRONG" in str(report)
    assert "FAILED" in str(report)


def test_nan_gradients_fail(rng) -> None:
    class Nan(Wrong):
        def _backward(self, dy, ctx, need_dx):
            return dy * np.float32("nan")

    with backend.using("numpy"):
        model = Sequential(Dense(3), Nan()).build((4,))
        report = check_gradients(model, rng.standard_normal((2, 4)).astype(np.float32), np.array([0, 1]))
    assert not report.passed


def test_kinks_are_skipped_and_counted() -> None:
    with backend.using("numpy", dtype="float64"):
        model = Sequential(ReLU(), Dense(2)).build((4,), rng=1)
        report = check_gradients(model, np.zeros((1, 4)), np.array([0]))
    assert report.skipped == 4  # all inputs sit at the kink
    assert report.passed
    assert report.uncompared == ("x",)
    assert ["x", "none", "compared"] in [line.split() for line in str(report).splitlines()]


class Masked(Layer):
    """Multiplies by a mask drawn at random, and claims a slope seven times too large."""

    random_names = ("step",)

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def _forward(self, x, train):
        f = np.random.default_rng(self.step).random(x.shape)
        self.step += 1
        return x * f, f

    def _backward(self, dy, ctx, need_dx):
        return 7 * dy * ctx


def test_a_layer_of_random_numbers_is_given_the_same_each_time(rng) -> None:
    with backend.using("numpy", dtype="float64"):
        report = check_gradients(Masked(), rng.standard_normal((3, 4)), np.array([0, 1, 2]))
    assert not report.passed
    assert report.skipped == 0
    assert report.worst[0].error == pytest.approx(6 / 7, rel=1e-3)


def test_nothing_compared_is_not_passed(rng) -> None:
    class Unnamed(Masked):
        random_names = ()

    with backend.using("numpy", dtype="float64"):
        report = check_gradients(Unnamed(), rng.standard_normal((3, 4)), np.array([0, 1, 2]))
    assert not report.passed
    assert report.uncompared == ("x",)
    assert report.skipped == 12
    assert "FAILED: tolerance 1e-06, 12 elements at kinks skipped\nnothing could be compared: " in str(report)


def test_another_loss(rng) -> None:
    with backend.using("numpy", dtype="float64"):
        x, t = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
        report = check_gradients(Dense(2, activation="tanh"), x, t, loss=MeanSquaredError(reduction="half_sum"))
    assert report.passed
    assert [w.error < 1e-8 for w in report.worst] == [True] * 3


def test_numerical_gradient_of_a_known_function(rng) -> None:
    x = rng.standard_normal((3, 2))
    before = x.copy()
    gradient = numerical_gradient(lambda v: float(np.sin(v).sum() + v[0, 0] * v[2, 1]), x)
    expected = np.cos(x)
    expected[0, 0] += x[2, 1]
    expected[2, 1] += x[0, 0]
    assert np.allclose(gradient, expected, rtol=1e-7, atol=1e-8)
    assert np.array_equal(x, before)
