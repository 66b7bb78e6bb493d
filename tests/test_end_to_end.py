"""The same training on every backend: the same start bit for bit, then the same course within rounding."""

import functools

import numpy as np
import pytest

from xpnet import backend
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Pool2D, ReLU, Residual, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import LeNet
from xpnet.optim import SGD, Adam, Nesterov
from xpnet.testing import assert_close

SAMPLES, BATCH, CLASSES = 64, 16, 4
STEPS = 6  # whose rounding errors add up


def _data():
    """Images of noise with a pattern that depends on the class."""
    rng = np.random.default_rng(20)
    t = rng.integers(0, CLASSES, size=SAMPLES)
    patterns = rng.normal(size=(CLASSES, 1, 16, 16))
    return (patterns[t] + 0.3 * rng.normal(size=(SAMPLES, 1, 16, 16))).astype(np.float32), t


def _custom():
    def block(filters, stride):
        body = Sequential(
            Conv2D(filters, 3, stride=stride, padding=1, bias=False),
            BatchNorm(),
            ReLU(),
            Conv2D(filters, 3, padding="same"),
        )
        return Residual(body, Conv2D(filters, 1, stride=stride) if stride > 1 else None)

    return Sequential(
        Conv2D(4, 3, padding=1), block(4, 1), block(6, 2), Pool2D(2, mode="average"), Flatten(), Dropout(0.2),
        Dense(CLASSES),
    )  # fmt: skip


RUNS = {
    "lenet-adam": (lambda: LeNet(CLASSES, activation="tanh"), lambda: Adam(0.003)),
    "lenet-sgd": (lambda: LeNet(CLASSES, activation="relu", init="he_normal"), lambda: SGD(0.01, weight_decay=1e-3)),
    "lenet-1998-nesterov": (lambda: LeNet(CLASSES, variant="1998", activation="tanh"), lambda: Nesterov(0.02)),
    "residual-adam": (_custom, lambda: Adam(0.003, weight_decay=1e-3)),
    "residual-sgd": (_custom, lambda: SGD(0.05)),
}


def _train(run, *, steps=STEPS):
    """Train on the selected backend; return the weights before, the losses and the whole state after."""
    make_model, make_optimizer = RUNS[run]
    images, labels = _data()
    model, optimizer, loss = make_model(), make_optimizer(), SoftmaxCrossEntropy()
    model.build((1, 16, 16), rng=8)
    before = {p.name: np.array(backend.to_numpy(p.data)) for p in model.parameters()}
    dtype, values = backend.get().dtype, []
    for step in range(steps):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % SAMPLES
        x, t = backend.asarray(images[rows], dtype=dtype), backend.asarray(labels[rows])
        model.zero_grad()
        y = model.forward(x, train=True)
        value = loss.forward(y, t)
        model.backward(loss.backward(), need_dx=False)
        optimizer.update(model)
        values.append(float(value))
    scores = np.array(backend.to_numpy(model(backend.asarray(images, dtype=dtype))))
    return before, values, {k: np.array(backend.to_numpy(a)) for k, a in model.state_dict().items()}, scores


@functools.cache
def _expected(run, dtype):
    with backend.using("numpy", dtype=dtype):
        return _train(run)


@pytest.mark.parametrize("run", RUNS)
def test_same_course_in_float64(xp, run):
    """float64 leaves no room for anything but rounding."""
    with backend.using(xp.backend_name, dtype="float64"):
        before, values, after, scores = _train(run)
    expected = _expected(run, "float64")
    for name, w in before.items():
        assert np.array_equal(w, expected[0][name]), name
    assert_close(np.array(values), expected[1], terms=STEPS)
    for path, a in after.items():
        assert_close(a, expected[2][path], terms=STEPS)
    assert_close(scores, expected[3], terms=STEPS)


@pytest.mark.parametrize("run", ["lenet-sgd", "residual-adam"])
def test_same_course_in_float32(xp, run):
    before, values, after, scores = _train(run)
    expected, wide = _expected(run, "float32"), _expected(run, "float64")
    for name, w in before.items():
        assert w.dtype == np.float32
        assert np.array_equal(w, expected[0][name]), name
        assert np.array_equal(w, wide[0][name].astype(np.float32)), name
    assert_close(np.float32(values), wide[1], terms=STEPS)
    for path, a in after.items():
        assert_close(a, wide[2][path], terms=STEPS)
    assert_close(scores, wide[3], terms=STEPS)


@pytest.mark.parametrize("run", RUNS)
def test_it_learns(run):
    _, labels = _data()
    with backend.using("numpy"):
        before, values, after, scores = _train(run, steps=30)
    assert np.mean(values[-4:]) < 0.5 * np.mean(values[:4])
    assert np.mean(np.argmax(scores, axis=1) == labels) > 0.8
    assert all((after[name] != w).any() for name, w in before.items())


@pytest.mark.parametrize("run", ["lenet-adam", "residual-adam"])
def test_the_same_run_twice_is_bit_for_bit(xp, run):
    first, second = _train(run, steps=3), _train(run, steps=3)
    assert first[1] == second[1]
    for path, a in first[2].items():
        assert np.array_equal(a, second[2][path]), path
