"""Initial values: distributions by their statistics, fans by definition, the same numbers on every backend."""

import math
import pickle

import numpy as np
import pytest

from xpnet import backend, init
from xpnet.layers import Conv2D, Dense, Dropout, Flatten, Pool2D, Residual, Sequential
from xpnet.random import generator

SHAPE = (400, 500)  # large enough that five standard errors tell every wrong factor apart
FANS = init.Fans(48, 75)


def _normal_share(z: float) -> float:
    """Share of a normal distribution within z standard deviations of its mean."""
    return math.erf(z / math.sqrt(2.0))


def _check_moments(values: np.ndarray, mean: float, std: float) -> None:
    n = values.size
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
    assert abs(values.std() - std) < 5 * std / math.sqrt(2 * n)


def _check_share(values: np.ndarray, inside: float, share: float) -> None:
    n = values.size
    got = np.mean(np.abs(values) < inside)
    assert abs(got - share) < 5 * math.sqrt(share * (1 - share) / n)


HE, GLOROT, LECUN = math.sqrt(2 / 48), math.sqrt(2 / (48 + 75)), math.sqrt(1 / 48)


@pytest.mark.parametrize(
    "initializer, mean, std",
    [
        (init.normal(), 0.0, 0.01),
        (init.normal(0.3, 2.0), 2.0, 0.3),
        (init.he_normal(), 0.0, HE),
        (init.glorot_normal(), 0.0, GLOROT),
        (init.xavier_normal(), 0.0, GLOROT),
        (init.lecun_normal(), 0.0, LECUN),
    ],
)
def test_normal_kinds(initializer, mean, std):
    values = initializer(generator(3), SHAPE, FANS)
    _check_moments(values, mean, std)
    for z in (0.5, 1.0, 2.0):
        _check_share(values - mean, z * std, _normal_share(z))


@pytest.mark.parametrize(
    "initializer, low, high",
    [
        (init.uniform(), -0.05, 0.05),
        (init.uniform(1.0, 4.0), 1.0, 4.0),
        (init.he_uniform(), -math.sqrt(3) * HE, math.sqrt(3) * HE),
        (init.glorot_uniform(), -math.sqrt(3) * GLOROT, math.sqrt(3) * GLOROT),
        (init.xavier_uniform(), -math.sqrt(3) * GLOROT, math.sqrt(3) * GLOROT),
        (init.lecun_uniform(), -math.sqrt(3) * LECUN, math.sqrt(3) * LECUN),
    ],
)
def test_uniform_kinds(initializer, low, high):
    values = initializer(generator(4), SHAPE, FANS)
    assert low <= values.min() < low + 1e-3 * (high - low)
    assert high - 1e-3 * (high - low) < values.max() <= high
    _check_moments(values, (low + high) / 2, (high - low) / math.sqrt(12))
    _check_share(values - (low + high) / 2, (high - low) / 4, 0.5)


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0, 3.0])
def test_truncated_normal(bound):
    values = init.truncated_normal(0.2, 1.0, bound)(generator(5), SHAPE, FANS)
    z = (values - 1.0) / 0.2
    assert 0.99 * bound < np.abs(z).max() <= bound * (1 + 1e-12)
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * bound * density / _normal_share(bound)
    _check_moments(values, 1.0, 0.2 * math.sqrt(variance))
    _check_share(z, bound / 2, _normal_share(bound / 2) / _normal_share(bound))


@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (4, 3, 2, 2), (20, 3, 2, 2), (1, 7)])
def test_orthogonal(shape, gain):
    W = init.orthogonal(gain)(generator(2), shape, FANS).reshape(shape[0], -1)
    product = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    np.testing.assert_allclose(product, gain**2 * np.eye(min(W.shape)), atol=1e-12)


def test_orthogonal_takes_all_directions_alike():
    """Without the signs of R, LAPACK's Q has a diagonal that is mostly of one sign."""
    rng = generator(7)
    drawn = np.array([init.orthogonal()(rng, (3, 3), FANS) for _ in range(2000)])
    assert abs(drawn.mean(axis=0)).max() < 5 * math.sqrt(1 / 3 / 2000)
    np.testing.assert_allclose(drawn.var(axis=0), np.full((3, 3), 1 / 3), rtol=0.15)
    assert abs(np.linalg.det(drawn).mean()) < 5 / math.sqrt(2000)


def test_constants(rng):
    value = rng.normal()
    for initializer, expected in ((init.zeros(), 0.0), (init.ones(), 1.0), (init.constant(value), value)):
        got = initializer(generator(0), (3, 4), FANS)
        assert got.shape == (3, 4)
        assert (got == expected).all()


def test_names():
    distributions = [f"{who}_{kind}" for who in ("glorot", "he", "lecun", "xavier") for kind in ("normal", "uniform")]
    for name in [*distributions, "normal", "ones", "orthogonal", "truncated_normal", "uniform", "zeros"]:
        by_name = init.by_name(name)(generator(1), (5, 6), FANS)
        assert np.array_equal(by_name, getattr(init, name)()(generator(1), (5, 6), FANS)), name
    mine = init.constant(3.0)
    assert init.by_name(mine) is mine


@pytest.mark.parametrize("name", sorted(init._NAMES))
def test_initialisers_can_be_pickled(name):
    """For models that are given to other processes: their layers keep the initialisers."""
    initializer = init.by_name(name)
    again = pickle.loads(pickle.dumps(initializer))
    assert np.array_equal(again(generator(1), (5, 6), FANS), initializer(generator(1), (5, 6), FANS))


def test_a_built_model_can_be_pickled(rng):
    model = _model().build((2, 8, 8), rng=3)
    again = pickle.loads(pickle.dumps(model))
    x = rng.standard_normal((2, 2, 8, 8)).astype(np.float32)
    assert np.array_equal(again.predict(x), model.predict(x))
    again["5"].W.data[...] = 0.0  # they share nothing
    assert not np.array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: init.normal(-0.1), r"init\.normal: std must not be negative, got -0\.1"),
        (lambda: init.normal(math.nan), r"init\.normal: std must not be negative, got nan"),
        (lambda: init.truncated_normal(-1.0), r"init\.truncated_normal: std must not be negative, got -1\.0"),
        (lambda: init.truncated_normal(bound=0.1), r"bound must be at least 0\.5 standard deviations, got 0\.1"),
        (lambda: init.orthogonal(-1.0), r"init\.orthogonal: gain must not be negative, got -1\.0"),
        (
            lambda: Dense(3, bias_init="orthogonal").build((2,)),
            r"init\.orthogonal: weights of at least 2 axes needed, got shape \(3,\)",
        ),
        (lambda: init.uniform(1.0, 0.0), r"init\.uniform: low must not be above high, got 1\.0 and 0\.0"),
        (lambda: init.by_name("kaiming"), r"init: no initialiser 'kaiming'; there are glorot_normal, .*zeros"),
        (lambda: Dense(3, init="kaiming"), r"init: no initialiser 'kaiming'"),
        (lambda: Conv2D(3, 3, bias_init="kaiming"), r"init: no initialiser 'kaiming'"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_initializer_of_the_wrong_shape():
    layer = Dense(3, init=lambda rng, shape, fans: np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"the initialiser returned shape \(2, 2\) where \(4, 3\) was asked for"):
        layer.build((4,))


def _fans_of(layer, input_shape):
    """What a layer asks its initialiser for: how often a unit reads and how often an input is read."""
    asked = []

    def spy(rng, shape, fans):
        asked.append((shape, fans))
        return np.zeros(shape)

    layer.init = spy
    layer.build(input_shape)
    return asked[0]


def test_fans_by_counting():
    """The fans of a layer are the numbers of ones in its matrix, away from borders."""
    shape, fans = _fans_of(Dense(7), (5,))
    assert (shape, fans) == ((5, 7), (5, 7))
    for groups in (1, 2, 4):
        layer = Conv2D(8, (3, 5), groups=groups)
        shape, fans = _fans_of(layer, (4, 16, 16))
        assert shape == (8, 4 // groups, 3, 5)
        layer.W.data[...] = 1.0
        x = np.zeros((1, 4, 16, 16), np.float32)
        x[0, 1, 8, 8] = 1.0
        seen_by = layer(x).sum()
        assert layer(np.ones_like(x))[0, 0, 5, 5] == fans.fan_in
        assert seen_by == fans.fan_out, f"groups={groups}"


def _model():
    body = Sequential(Conv2D(4, 3, padding=1, init="truncated_normal"), Conv2D(4, 3, padding=1, init="he_uniform"))
    return Sequential(
        Conv2D(4, 3, bias_init="normal"),
        Residual(body, Conv2D(4, 1, init="glorot_uniform")),
        Pool2D(2),
        Flatten(),
        Dropout(0.5),
        Dense(5, init="glorot_normal"),
    )


def _weights(model):
    return {p.name: np.array(backend.to_numpy(p.data)) for p in model.parameters()}


def test_same_seed_same_weights_on_every_backend(xp):
    got = _model().build((2, 8, 8), rng=17)
    assert backend.array_namespace(got["5"].W.data) is xp.xp
    with backend.using("numpy"):
        expected = _model().build((2, 8, 8), rng=17)
    for name, w in _weights(expected).items():
        assert w.dtype == np.float32
        assert np.array_equal(_weights(got)[name], w), name
    assert got["4"].seed == expected["4"].seed  # of the dropout masks


def test_float64_weights_round_to_those_of_float32(xp):
    with backend.using(xp.backend_name, dtype="float64"):
        wide = _weights(_model().build((2, 8, 8), rng=17))
    narrow = _weights(_model().build((2, 8, 8), rng=17))
    for name, w in wide.items():
        assert w.dtype == np.float64
        assert np.array_equal(w.astype(np.float32), narrow[name]), name
    assert any((w != w.astype(np.float32)).any() for w in wide.values())  # they were not rounded on the way


def test_layers_and_seeds_differ():
    twins = Sequential(Dense(6, init="normal"), Dense(6, init="normal"))
    first = _weights(twins.build((6,), rng=0))
    second = _weights(Sequential(Dense(6, init="normal"), Dense(6, init="normal")).build((6,), rng=1))
    drawn = [first["0.W"], first["1.W"], second["0.W"], second["1.W"]]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert not np.isin(a, b).any()


def test_a_generator_continues():
    rng = np.random.default_rng(5)
    first, second = Dense(4).build((3,), rng=rng), Dense(4).build((3,), rng=rng)
    assert not np.isin(backend.to_numpy(first.W.data), backend.to_numpy(second.W.data)).any()
    again = Dense(4).build((3,), rng=np.random.default_rng(5))
    assert np.array_equal(backend.to_numpy(again.W.data), backend.to_numpy(first.W.data))
