"""The comparison of backends names the layer that is wrong on one of them, forward or backward, at any depth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import backend
from xpnet.compare import compare_backends
from xpnet.errors import ArgumentError, BackendUnavailableError, NonFiniteError, OperationError, ShapeError
from xpnet.kernels import table
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Observer,
    Parallel,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
    observing,
)
from xpnet.layers import base as base_module
from xpnet.models import LeNet

pytest.importorskip("array_api_strict")
BACKENDS = ("numpy", "array_api_strict")


class Odd(Layer):
    """Doubles its input, but not on array_api_strict: there its `when` is off by one part in a hundred at one place."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def _spoil(self, a, when: str):
        xp = backend.array_namespace(a)
        if when == self.when and xp.__name__ == "array_api_strict":
            a = xp.asarray(a, copy=True)
            where = (1,) + (0,) * (len(a.shape) - 1)
            a[where] += 0.01 * xp.max(xp.abs(a))
        return a

    def _forward(self, x, train):
        return self._spoil(2.0 * x, "forward"), None

    def _backward(self, dy, ctx, need_dx):
        return self._spoil(2.0 * dy, "backward")


def model(odd: Layer) -> Sequential:
    return Sequential(
        {
            "in": Conv2D(4, 3, padding=1),
            "block": Residual(Sequential({"conv": Conv2D(4, 3, padding=1), "odd": odd, "norm": BatchNorm()})),
            "sides": Parallel(Conv2D(2, 1), Sequential(Pool2D(3, stride=1, padding=1), ReLU())),
            "flat": Flatten(),
            "drop": Dropout(0.3),
            "out": Dense(3),
        }
    )


def batch(rng: np.random.Generator, shape=(1, 6, 6), classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((4, *shape)), rng.integers(0, classes, 4)


def test_a_sound_model_agrees_on_every_backend(xp, rng) -> None:
    if xp.backend_name == "numpy":
        pytest.skip("numpy is the reference")
    built = model(ReLU()).build((1, 6, 6), rng=1)
    before = {name: backend.to_numpy(a).copy() for name, a in built.state_dict().items()}
    for dtype in ("float32", "float64"):
        report = compare_backends(built, *batch(rng), ["numpy", xp.backend_name], dtype=dtype)
        assert report.passed, str(report)
        assert report.first is None
        assert all(row.shape or row.layer == "loss" for row in report.rows)
    assert all(np.array_equal(backend.to_numpy(a), before[name]) for name, a in built.state_dict().items())
    assert built["drop"].step == 0
    assert not any(layer._pending for _, layer in built.named_layers())
    assert "passed: " in str(report)


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("where", ["residual", "parallel", "last"])
def test_a_wrong_layer_is_the_first_to_part(when, where, isolate, rng) -> None:
    odd = Odd(when)
    path, made = {
        "residual": ("block.body.odd", model(odd)),
        "parallel": ("sides.1.0", Sequential({"sides": Parallel(ReLU(), Sequential(odd, ReLU())), "flat": Flatten()})),
        "last": ("2", Sequential(Flatten(), Dense(3), odd)),
    }[where]
    if where == "parallel":
        made = Sequential({**made._layers, "out": Dense(3)})
    report = compare_backends(made, *batch(rng), BACKENDS, isolate=isolate)
    assert report.first is not None
    assert (report.first.layer, report.first.kind, report.first.when) == (path, "Odd", when)
    assert report.first.what == {"forward": "y", "backward": "dx"}[when]
    assert report.first.parted == ["array_api_strict"]
    assert report.first.errors["array_api_strict"] == pytest.approx(0.01, rel=0.01)
    assert f"PARTED: first in {when} at {path} (Odd)" in str(report)
    parted = [row for row in report.rows if row.parted]
    assert (len(parted) == 1) == isolate  # else what is wrong travels on, if only to the loss


@pytest.mark.parametrize(
    ("kernel", "position", "expected"),
    [
        ("conv2d_forward", None, [("in", "y"), ("block.body.conv", "y"), ("sides.0", "y")]),
        ("conv2d_backward", 0, [("sides.0", "dx"), ("block.body.conv", "dx"), ("in", "dx")]),
        ("conv2d_backward", 1, [("sides.0", "dW"), ("block.body.conv", "dW"), ("in", "dW")]),
        ("batch_norm_backward", 0, [("block.body.norm", "dx")]),
        ("softmax_cross_entropy_backward", None, [("loss", "dx")]),
    ],
)
def test_a_wrong_kernel_is_named_wherever_it_runs(kernel, position, expected, rng, monkeypatch) -> None:
    right = table._TABLE["agnostic", kernel]

    def wrong(*args, **kwargs):
        results = right(*args, **kwargs)
        if position is None:
            return 1.01 * results if not isinstance(results, tuple) else (1.01 * results[0], *results[1:])
        return tuple(1.01 * r if i == position and r is not None else r for i, r in enumerate(results))

    monkeypatch.setitem(table._TABLE, ("array_api_strict", kernel), wrong)
    report = compare_backends(model(ReLU()), *batch(rng), BACKENDS)
    assert [(row.layer, row.what) for row in report.rows if row.parted] == expected
    assert report.first is not None
    assert (report.first.layer, report.first.what) == expected[0]


def test_running_statistics_are_compared(rng) -> None:
    class Momentum(BatchNorm):
        def _forward(self, x, train):
            self.momentum = 0.1 if isinstance(x, np.ndarray) else 0.11
            return super()._forward(x, train)

    report = compare_backends(Sequential(Flatten(), Momentum(), Dense(3)), *batch(rng), BACKENDS)
    assert [(r.layer, r.when, r.what) for r in report.rows if r.parted] == [
        ("1", "forward", "running_mean"),
        ("1", "forward", "running_var"),
    ]


def test_nan_on_one_side_parts_where_it_begins(rng) -> None:
    class Nan(Layer):
        def _forward(self, x, train):
            return x if isinstance(x, reference) else x + float("nan"), None

        def _backward(self, dy, ctx, need_dx):
            return dy

    net = Sequential(Flatten(), Dense(3), Nan())
    x, t = batch(rng)
    for isolate in (True, False):  # without isolation the loss refuses NaN and the step ends there
        reference = np.ndarray
        report = compare_backends(net, x, t, BACKENDS, isolate=isolate)
        assert report.first is not None
        assert (report.first.layer, report.first.errors) == ("2", {"array_api_strict": math.inf})
        reference = ()
        with pytest.raises(NonFiniteError) as caught:
            compare_backends(net, x, t, BACKENDS, isolate=isolate)
        assert caught.value.__notes__ == ["while running on backend 'numpy'"]


def test_a_shared_layer_is_compared_at_each_use(rng) -> None:
    shared = Dense(6)
    report = compare_backends(Sequential(Flatten(), Dense(6), shared, ReLU(), shared), *batch(rng), BACKENDS)
    assert report.passed
    assert [(r.layer, r.what) for r in report.rows].count(("2", "y")) == 2
    assert [(r.layer, r.what) for r in report.rows].count(("2", "dW")) == 2


def test_three_backends_a_class_and_a_tolerance(rng) -> None:
    x, t = batch(rng, (1, 28, 28))
    report = compare_backends(LeNet, x, t, ["numpy", "array_api_strict", "array_api_strict:device1"])
    assert report.passed
    assert report.backends == ("array_api_strict", "array_api_strict:device1")
    strict = compare_backends(LeNet, x, t, [*BACKENDS], tolerance=1e-12, dtype="float32", seed=3)
    exact = {r.what for r in strict.rows if not r.parted}
    assert exact  # equal bits are within any tolerance
    assert all(r.allowed < 1e-9 for r in strict.rows)


def test_float_targets_and_another_loss(rng) -> None:
    x, t = rng.standard_normal((4, 5)), rng.standard_normal((4, 2))
    report = compare_backends(Dense(2), x, t, BACKENDS, loss="mean_squared_error")
    assert report.passed
    assert [r.kind for r in report.rows if r.layer == "loss"] == ["MeanSquaredError"] * 2


def test_what_cannot_be_compared(rng) -> None:
    x, t = batch(rng)
    for names in ([], ["numpy"], ["numpy", "numpy"]):
        with pytest.raises(ArgumentError, match="give two backends or more, each once"):
            compare_backends(LeNet, x, t, names)
    for tolerance in (-1.0, math.nan, "small"):
        with pytest.raises(ArgumentError, match="tolerance must be finite and at least 0, got"):
            compare_backends(LeNet, x, t, BACKENDS, tolerance=tolerance)
    with pytest.raises(BackendUnavailableError, match="no backend 'nympy'"):
        compare_backends(LeNet, x, t, ["numpy", "nympy"])
    with pytest.raises(ShapeError):
        compare_backends(LeNet, x, t, BACKENDS)

    class Refuses(Layer):
        def _forward(self, x, train):
            if not isinstance(x, np.ndarray):
                raise OperationError("refuses", "no")
            return x, None

        def _backward(self, dy, ctx, need_dx):
            return dy

    with pytest.raises(OperationError, match='refuses \\(layer "0"\\)') as caught:
        compare_backends(Sequential(Refuses(), Flatten(), Dense(3)), x, t, BACKENDS)
    assert caught.value.__notes__ == ["while running on backend 'array_api_strict'"]


def test_observers_see_results_and_may_replace_them(rng) -> None:
    seen: list[tuple[str, str]] = []

    class Halve(Observer):
        def after_forward(self, layer, x, y):
            seen.append(("forward", type(layer).__name__))
            return y / 2 if isinstance(layer, ReLU) else y

        def after_backward(self, layer, dy, dx):
            seen.append(("backward", type(layer).__name__))
            return dx

    net = Sequential(Dense(3), ReLU()).build((4,), rng=1)
    x = rng.standard_normal((2, 4)).astype(np.float32)
    plain = net.predict(x)
    with observing(Halve()):
        assert np.array_equal(net.forward(x), plain / 2)
        net.backward(plain)
    assert np.array_equal(net.predict(x), plain)
    forward = [("forward", n) for n in ("Dense", "ReLU", "Sequential")]
    assert seen == [*forward, *(("backward", n) for n in ("ReLU", "Dense", "Sequential"))]


def test_an_observer_that_fails_leaves_nothing_pending(rng) -> None:
    class Fails(Observer):
        def after_forward(self, layer, x, y):
            if isinstance(layer, Residual):
                raise RuntimeError("enough")
            return y

    net = Sequential(Dense(4), Residual(Sequential(Dense(4), ReLU()))).build((4,))
    with observing(Fails()), pytest.raises(RuntimeError, match="enough"):
        net.forward(rng.standard_normal((2, 4)).astype(np.float32))
    assert not any(layer._pending for _, layer in net.named_layers())
    assert base_module.current_observer() is None
