"""16-bit models are updated in float32: nothing small is lost, and what others write into the weights holds."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, Sequential
from xpnet.optim import EMA

HALVES = [("numpy", "float16"), ("torch", "float16"), ("torch", "bfloat16"), ("cupy", "float16"), ("cupy", "bfloat16")]
KINDS = ["SGD", "Momentum", "Nesterov", "AdaGrad", "AdaDelta", "RMSprop", "Adam", "AdamW", "Lion", "LAMB"]


@pytest.fixture(params=HALVES, ids="-".join)
def half(request, needs_backend):
    library, dtype = request.param
    needs_backend(library)
    with backend.using(library, dtype=dtype):
        yield library, dtype


def model_of(library, dtype):
    with backend.using(library, dtype=dtype):
        layers = Sequential(Conv2D(2, 3, padding=1), BatchNorm(), Flatten(), Dense(3))
        return layers.build((1, 4, 4), rng=0)


def copy_weights(source, target):
    target.load_state_dict(source.state_dict())


def set_gradients(rng, *models, scale=1.0):
    """The same gradients, which every type can hold, for each model."""
    for parameters in zip(*(m.parameters() for m in models), strict=True):
        g = np.round(rng.standard_normal(parameters[0].shape) * 64) / 64 * scale
        for p in parameters:
            p.grad[...] = backend.asarray_like(g, p.grad)


def hosted(model):
    return {name: np.array(backend.to_numpy(a), np.float32) for name, a in model.state_dict().items()}


def test_small_steps_add_up(half):
    """A thousand steps of 1e-5: each is a hundredth of the last place of 1.0 in float16."""
    model = Dense(1, init="ones", bias=False).build((1,))
    optimizer = optim.SGD(lr=1e-5)
    model.W.grad[...] = 1.0
    for _ in range(1000):
        optimizer.update(model)
    assert float(model.W.data[0, 0]) == pytest.approx(0.99, abs=0.002)
    assert backend.dtype_name(model.W.data.dtype) == half[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_of_a_float32_model_rounded(half, rng, kind):
    """Bit for bit, with decay, clipping, limits and groups."""
    library, dtype = half
    narrow, wide = model_of(library, dtype), model_of(library, "float32")
    copy_weights(narrow, wide)
    settings = {"weight_decay": 0.1, "l1": 0.01, "max_norm": 1.0, "clip_norm": 1.0, "clip_value": 0.9}
    pair = [getattr(optim, kind)(0.02, groups=[{"match": "*.W", "lr": 0.01}], **settings) for _ in range(2)]
    for _ in range(5):
        set_gradients(rng, narrow, wide)
        pair[0].update(narrow)
        pair[1].update(wide)
        for a, b in zip(narrow.parameters(), wide.parameters(), strict=True):
            expected = backend.asarray_like(b.data, a.data)
            assert np.array_equal(backend.to_numpy(a.data), backend.to_numpy(expected)), a.name


def test_weights_that_were_loaded_hold(half, rng):
    model, optimizer = model_of(*half), optim.Momentum(lr=1e-5)
    set_gradients(rng, model)
    optimizer.update(model)
    other = {name: a * 0 + 2 for name, a in hosted(model).items()}
    model.load_state_dict(other)
    set_gradients(rng, model, scale=0.01)
    optimizer.update(model)
    for p in model.parameters():
        assert np.abs(backend.to_numpy(p.data).astype(np.float32) - 2).max() < 1e-2


def test_looking_at_the_average_loses_no_bit(half, rng):
    plain, watched = model_of(*half), model_of(*half)
    optimizers = [optim.SGD(lr=1e-4) for _ in range(2)]
    ema = EMA(watched, decay=0.5)
    for _ in range(20):
        set_gradients(rng, plain, watched)
        for optimizer, model in zip(optimizers, (plain, watched), strict=True):
            optimizer.update(model)
        ema.update()
        with ema.applied():
            pass
    states = [optimizer.state_dict() for optimizer in optimizers]
    assert "master.0.W" in states[0]
    for name, a in states[0].items():
        assert np.array_equal(backend.to_numpy(a), backend.to_numpy(states[1][name])) if "." in name else True


def test_state_goes_on_bit_for_bit(half, rng):
    first, second = model_of(*half), model_of(*half)
    optimizer, resumed = optim.Adam(lr=1e-4), optim.Adam(lr=1e-4)
    for _ in range(3):
        set_gradients(rng, first)
        optimizer.update(first)
    resumed.load_state_dict(optimizer.state_dict(), second)
    copy_weights(first, second)
    for _ in range(3):
        set_gradients(rng, first, second)
        optimizer.update(first)
        resumed.update(second)
    mine, other = optimizer.state_dict(), resumed.state_dict()
    assert {name.partition(".")[0] for name in mine} == {"step", "lr", "m", "v", "master"}
    assert all(np.array_equal(backend.to_numpy(a), backend.to_numpy(other[n])) for n, a in mine.items() if "." in n)


def test_state_between_wide_and_narrow_models(half, rng):
    library, dtype = half
    narrow, wide = model_of(library, dtype), model_of(library, "float32")
    set_gradients(rng, narrow, wide)
    of_narrow, of_wide = optim.Adam(), optim.Adam()
    of_narrow.update(narrow)
    of_wide.update(wide)
    optim.Adam().load_state_dict(of_narrow.state_dict(), wide)
    taken = optim.Adam()
    taken.load_state_dict(of_wide.state_dict(), narrow)
    master, weights = taken.state_dict()["master.3.W"], backend.to_numpy(narrow["3"].W.data).astype(np.float32)
    assert np.array_equal(backend.to_numpy(master), weights)  # since the state had none


def test_a_float32_model_has_no_master_weights(xp, rng):
    model, optimizer = Dense(2).build((3,)), optim.Adam()
    set_gradients(rng, model)
    optimizer.update(model)
    assert not any(name.startswith("master") for name in optimizer.state_dict())


def test_predicted_memory_counts_them():
    with backend.using("numpy", dtype="float16"):
        memory = Dense(1000).build((1000,)).summary().training_memory(1, "adam")
    assert (memory.parameters, memory.gradients) == (2_002_000, 2_002_000)
    assert memory.optimizer_state == 3 * 4_004_000  # m, v and the master weights
    assert memory.scratch + memory.activations == 4_004_000  # the gradients in float32
