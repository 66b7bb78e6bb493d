"""Scaling of the loss: the factor follows torch.amp.GradScaler, and bad steps change nothing but it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import backend, losses, optim
from xpnet.errors import NonFiniteError
from xpnet.layers import Conv2D, Dense, Flatten, ReLU, Sequential
from xpnet.losses import MeanSquaredError, SoftmaxCrossEntropy
from xpnet.optim import DynamicLossScale, LossScale
from xpnet.testing import assert_close
from xpnet.training import train_step
from xpnet.training.step import forward_backward


def model_of(dtype=None):
    with backend.using(backend.get().name, dtype=dtype):
        return Sequential(Conv2D(3, 3), ReLU(), Flatten(), Dense(4)).build((1, 5, 5), rng=0)


def set_gradients(rng, *models, factors):
    for parameters in zip(*(m.parameters() for m in models), strict=True):
        g = rng.standard_normal(parameters[0].shape).astype(np.float32)
        for p, factor in zip(parameters, factors, strict=True):
            p.grad[...] = backend.asarray_like(g * factor, p.grad)


def hosted(arrays):
    return {name: np.array(backend.to_numpy(a)) for name, a in arrays.items() if hasattr(a, "shape")}


def same(a, b):
    a, b = hosted(a), hosted(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- the factor ----------------------------------------------------------------------------------


def test_the_factor_is_that_of_torch(rng):
    torch = pytest.importorskip("torch")
    w = torch.zeros(1, requires_grad=True)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_factor=4.0, backoff_factor=0.25, growth_interval=3)
    ours = DynamicLossScale(2.0**10, growth=4.0, backoff=0.25, interval=3)
    sgd = torch.optim.SGD([w], lr=0.0)
    for _ in range(200):
        finite = rng.random() < 0.8
        theirs.scale(w.sum())
        w.grad = torch.tensor([1.0 if finite else math.inf])
        theirs.step(sgd)
        theirs.update()
        assert ours.record(finite) is finite
        assert ours.value == theirs.get_scale()
        assert ours.streak == theirs.state_dict()["_growth_tracker"]


def test_defaults_are_those_of_torch():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.amp.GradScaler("cpu"), DynamicLossScale()
    settings = theirs.state_dict()
    assert [ours.value, ours.growth, ours.backoff, ours.interval] == [
        settings[name] for name in ("scale", "growth_factor", "backoff_factor", "growth_interval")
    ]


def test_gradients_that_are_never_finite_end_the_run():
    scale = DynamicLossScale()
    for _ in range(40):
        scale.record(False)
    with pytest.raises(NonFiniteError, match=r"not finite even if the loss is multiplied by .* after 41 skipped"):
        scale.record(False)


def test_the_factor_never_becomes_infinite():
    scale = DynamicLossScale(2.0**1023, interval=1)
    assert scale.record(True)
    assert scale.value == 2.0**1023


@pytest.mark.parametrize(
    "settings",
    [{"value": 0}, {"value": math.inf}, {"value": math.nan}, {"growth": 1.0}, {"backoff": 1.0}, {"interval": 0}],
)
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match=r"LossScale: (value must|expected growth)"):
        DynamicLossScale(**settings)


@pytest.mark.parametrize("wrong", [{}, {"value": 1.0}, {"value": -1.0}, {"value": "1"}, {"streak": 1.5}, {"more": 1}])
def test_a_state_that_is_none_changes_nothing(wrong):
    scale = DynamicLossScale(8.0)
    state = scale.state_dict()
    bad = (state | wrong) if wrong and wrong != {"value": 1.0} else wrong
    with pytest.raises(ValueError, match="cannot be understood"):
        scale.load_state_dict(bad)
    assert scale.state_dict() == state


# --- the update ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [True, False])
def test_clipping_and_decay_see_the_gradients_without_the_factor(xp, rng, dynamic):
    """A power of two changes no bit, so the weights are those of a plain update."""
    plain, scaled = model_of(), model_of()
    settings = {"clip_norm": 1.0, "clip_value": 0.5, "weight_decay": 0.1, "l1": 0.01, "max_norm": 1.0}
    first, second = (optim.Adam(0.1, **settings) for _ in range(2))
    scale = DynamicLossScale(1024.0) if dynamic else LossScale(1024.0)
    for _ in range(3):
        set_gradients(rng, plain, scaled, factors=(1.0, 1024.0))
        first.update(plain)
        second.update(scaled, loss_scale=scale)
    assert same(plain.state_dict(), scaled.state_dict())
    assert same(first.state_dict(), second.state_dict())
    assert float(first.grad_norm) == float(second.grad_norm)
    assert (scale.steps, scale.skipped) == (3, 0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("first", [True, False])
def test_one_bad_gradient_changes_nothing_but_the_factor(xp, rng, bad, first):
    model, optimizer = model_of(), optim.Adam(0.1, clip_norm=1.0, weight_decay=0.1)
    scale = DynamicLossScale(1024.0)
    if not first:
        set_gradients(rng, model, factors=(1024.0,))
        optimizer.update(model, loss_scale=scale)
    weights, state = hosted(model.state_dict()), hosted(optimizer.state_dict())
    set_gradients(rng, model, factors=(1024.0,))
    model.parameters()[1].grad[1] = bad
    optimizer.update(model, loss_scale=scale)
    assert same(weights, model.state_dict())
    assert first or same(state, optimizer.state_dict())
    assert optimizer.step == (0 if first else 1)
    assert (scale.value, scale.skipped) == (512.0, 1)
    set_gradients(rng, model, factors=(512.0,))
    optimizer.update(model, loss_scale=scale)  # and the next one works
    assert not same(weights, model.state_dict())
    assert optimizer.step == (1 if first else 2)


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_a_bad_gradient_in_float16(library, needs_backend, rng):
    needs_backend(library)
    with backend.using(library):
        model, optimizer, scale = model_of("float16"), optim.Adam(0.1), DynamicLossScale(1024.0)
        for bad in (0.0, math.inf):
            before = hosted(model.state_dict()), hosted(optimizer.state_dict())
            set_gradients(rng, model, factors=(1024.0,))
            model.parameters()[0].grad[0, 0, 0, 0] += bad
            optimizer.update(model, loss_scale=scale)
            changed = not same(before[0], model.state_dict()), not same(before[1], optimizer.state_dict())
            assert changed == ((True, True) if bad == 0.0 else (False, False))


# --- the step ------------------------------------------------------------------------------------


def batch(xp, rng, dtype="float32", N=6):
    x, t = rng.standard_normal((N, 1, 5, 5)).astype(dtype), rng.integers(0, 4, N)
    return xp.asarray(x), xp.asarray(t)


def test_a_step_with_a_factor_is_a_step(xp, rng):
    plain, scaled = model_of(), model_of()
    x, t = batch(xp, rng)
    scale, first, second = LossScale(2.0**12), optim.Momentum(0.1), optim.Momentum(0.1)
    for _ in range(3):
        value = train_step(plain, SoftmaxCrossEntropy(), first, x, t)
        assert float(train_step(scaled, SoftmaxCrossEntropy(), second, x, t, loss_scale=scale)) == float(value)
    assert same(plain.state_dict(), scaled.state_dict())


def test_micro_batches_with_a_factor(xp, rng):
    plain, scaled = model_of(), model_of()
    x, t = batch(xp, rng)
    loss = SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 3.0, 4.0])
    forward_backward(plain, loss, x, t, micro_batch=4)
    forward_backward(scaled, loss, x, t, micro_batch=4, scale=256.0)
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert np.array_equal(xp.to_numpy(a.grad) * 256.0, xp.to_numpy(b.grad))


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_gradients_that_float16_would_lose(library, needs_backend):
    """A gradient of 2e-9, below the smallest number of float16, moves the weight as in float32."""
    needs_backend(library)
    moved = {}
    for dtype, scale in (("float32", None), ("float16", None), ("float16", DynamicLossScale())):
        with backend.using(library, dtype=dtype) as chosen:
            model = Dense(1, init="zeros", bias=False).build((1,))
            x = backend.asarray(np.full((2, 1), 2.0**-14), dtype=chosen.dtype)
            t = backend.asarray(np.full((2, 1), 2.0**-16), dtype=chosen.dtype)
            train_step(model, MeanSquaredError(), optim.SGD(lr=2.0**20), x, t, loss_scale=scale)
            moved[dtype, scale is not None] = float(model.W.data[0, 0])
    assert moved["float32", False] == 2.0**-9
    assert moved["float16", False] == 0.0
    assert moved["float16", True] == 2.0**-9


@pytest.mark.parametrize(
    "kind", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "Hinge", "KLDivergence", "BinaryCrossEntropy"]
)
def test_a_factor_beyond_float16_is_no_overflow_by_itself(kind, rng):
    """The gradient times 2**17 fits where it is small enough."""
    y = np.log(rng.dirichlet([1.0] * 4, 64)) if kind == "KLDivergence" else rng.standard_normal((64, 4))
    t = rng.dirichlet([1.0] * 4, 64) if kind == "KLDivergence" else np.sign(rng.standard_normal((64, 4)))
    t = (t + 1) / 2 if kind == "BinaryCrossEntropy" else t
    gradients = []
    for dtype in (np.float16, np.float32):
        loss = getattr(losses, kind)()
        loss.forward(y.astype(np.float16).astype(dtype), t.astype(np.float16).astype(dtype))
        gradients.append(loss.backward(2.0**17))
    assert gradients[0].dtype == np.float16
    assert_close(gradients[0], gradients[1].astype(np.float64), terms=4)


def test_an_overflow_is_no_warning(rng):
    """Warnings are errors in these tests; the gradients of float16 times 2**30 are beyond it."""
    with backend.using("numpy", dtype="float16"):
        model, scale = model_of("float16"), LossScale(2.0**30)
        x, t = rng.standard_normal((6, 1, 5, 5)).astype(np.float16), rng.integers(0, 4, 6)
        before = hosted(model.state_dict())
        value = train_step(model, SoftmaxCrossEntropy(), optim.SGD(), x, t, loss_scale=scale)
    assert math.isfinite(float(value))
    assert scale.skipped == 1
    assert same(before, model.state_dict())
