"""The moving average of weights: its values, swapping in and out, its state."""

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.errors import StateError, WeightsError
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, Sequential
from xpnet.testing import assert_close


def _model(dtype="float32"):
    with backend.using(backend.get().name, dtype=dtype):
        return Sequential(Conv2D(3, 2), BatchNorm(), Flatten(), Dense(2)).build((2, 3, 3), rng=3)


def _host(model):
    return {path: np.array(backend.to_numpy(a)) for path, a in model.state_dict().items()}


def _step(model, rng):
    """Move weights and running statistics as a step of training would."""
    like = model.parameters()[0].data
    model.forward(backend.asarray_like(rng.normal(1.0, 2.0, size=(8, 2, 3, 3)), like))
    model.forget()
    for p in model.parameters():
        p.data[...] = p.data + backend.asarray_like(rng.normal(size=p.shape), p.data)


def test_average_of_weights_and_statistics(xp, rng):
    model = _model()
    expected = _host(model)
    ema = optim.EMA(model, decay=0.75)
    for _ in range(5):
        _step(model, rng)
        ema.update()
        expected = {path: 0.75 * a + 0.25 * _host(model)[path] for path, a in expected.items()}
    own = _host(model)
    for path, a in ema.weights().items():
        assert_close(a, expected[path], terms=5)
        xp.to_numpy(a)
    x = xp.asarray(rng.normal(size=(3, 2, 3, 3)), "float32")
    other = _model()
    other.load_state_dict(expected)
    views = [p.data for p in model.parameters()]
    with ema.applied() as given:
        assert given is model
        for path, a in model.state_dict().items():
            assert_close(a, expected[path], terms=5)
        assert_close(model(x), xp.to_numpy(other(x)), terms=20)
    for path, a in _host(model).items():
        assert np.array_equal(a, own[path]), path
    assert all(p.data is view for p, view in zip(model.parameters(), views, strict=True))
    assert ema.updates == 5
    assert repr(ema) == "EMA(decay=0.75, updates=5)"


def test_what_the_block_does_is_lost_and_an_error_too(xp, rng):
    model = _model()
    ema = optim.EMA(model)
    _step(model, rng)
    own = _host(model)

    def fail():
        with ema.applied():
            _step(model, rng)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(np.array_equal(a, own[path]) for path, a in _host(model).items())
    ema.update()  # and it goes on


def test_half_floats_are_averaged_in_float32(rng):
    """In float16 a step of a thousandth of the difference would round to nothing."""
    with backend.using("numpy"):
        model = _model("float16")
    for p in model.parameters():
        p.data[...] = 1.0
    ema = optim.EMA(model, decay=0.9999)
    for p in model.parameters():
        p.data[...] = 2.0
    for _ in range(100):
        ema.update()
    assert ema.weights()["0.W"].dtype == np.float32
    assert_close(ema.weights()["0.W"], np.full((3, 2, 2, 2), 2.0 - 0.9999**100), terms=100)
    with ema.applied():
        assert model["0"].W.data.dtype == np.float16
        assert_close(model["0"].W.data, np.full((3, 2, 2, 2), 2.0 - 0.9999**100))
    assert np.array_equal(model["0"].W.data, np.full((3, 2, 2, 2), 2.0))


def test_resume_bit_for_bit(xp, rng):
    whole, seeds = _model(), [np.random.default_rng(i) for i in range(6)]
    ema = optim.EMA(whole, decay=0.9)
    for r in seeds[:3]:
        _step(whole, r)
        ema.update()
    resumed = _model()
    resumed.load_state_dict(whole.state_dict())
    second = optim.EMA(resumed, decay=0.9)
    saved = ema.state_dict()
    second.load_state_dict(saved)
    for r in seeds[3:]:
        _step(whole, r)
        ema.update()
        resumed.load_state_dict(whole.state_dict())
        second.update()
    assert second.updates == ema.updates == 6
    for path, a in ema.weights().items():
        assert np.array_equal(xp.to_numpy(a), xp.to_numpy(second.weights()[path])), path
    assert saved["updates"] == 3  # a copy


def test_state_from_another_backend(xp, rng):
    with backend.using("numpy"):
        model = _model()
        ema = optim.EMA(model)
        _step(model, rng)
        ema.update()
    mine = optim.EMA(_model())
    mine.load_state_dict(ema.state_dict())
    for path, a in mine.weights().items():
        assert np.array_equal(xp.to_numpy(a), ema.weights()[path])


def test_the_average_as_weights_of_a_model(xp, rng):
    model, other = _model(), _model()
    ema = optim.EMA(model)
    _step(model, rng)
    ema.update()
    other.load_state_dict(ema.weights())
    with ema.applied():
        assert all(np.array_equal(a, _host(model)[path]) for path, a in _host(other).items())


def test_part_of_a_larger_model(xp, rng):
    """The buffers are gathered anew then; the average stays with its parameters."""
    model = _model()
    ema = optim.EMA(model, decay=0.5)
    before = _host(model)
    whole = Sequential(model, Dense(1)).build((2, 3, 3))
    whole.zero_grad()
    _step(model, rng)
    ema.update()
    after = _host(model)
    for path, a in ema.weights().items():
        assert_close(a, 0.5 * before[path] + 0.5 * after[path])


def test_errors(xp):
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="EMA: decay must be at least 0 and below 1"):
            optim.EMA(_model(), decay)
    with pytest.raises(StateError, match="has not been built"):
        optim.EMA(Sequential(Dense(2)))
    model = _model()
    ema = optim.EMA(model)
    with ema.applied():
        for act in (ema.update, lambda: ema.applied().__enter__(), lambda: ema.load_state_dict({})):
            with pytest.raises(StateError, match=r"inside applied\(\): the model holds the averaged weights"):
                act()
    state = ema.state_dict()
    before = {path: xp.to_numpy(a) for path, a in ema.weights().items()}
    for spoilt, text in (
        ({k: v for k, v in state.items() if k != "updates"}, "EMA: the state does not fit the model: updates missing"),
        ({k: v for k, v in state.items() if k != "0.W"}, r"0\.W missing or too many"),
        (state | {"9.W": state["0.W"]}, r"9\.W missing or too many"),
        (state | {"0.W": state["3.W"]}, r"EMA: 0\.W has shape \(12, 2\) but \(3, 2, 2, 2\) is expected"),
    ):
        with pytest.raises(WeightsError, match=text):
            ema.load_state_dict(spoilt)
    assert all(np.array_equal(xp.to_numpy(a), before[path]) for path, a in ema.weights().items())
    model.to("numpy", dtype="float64")
    with pytest.raises(StateError, match="EMA: the model has been moved since the average was begun; make a new EMA"):
        ema.update()
