"""Paths of optimizers: the formulas by hand, the two surfaces of the recipe, and the picture."""

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.errors import StateError
from xpnet.layers import Dense
from xpnet.viz import BOWL, SADDLE, Surface, optimizer_path, plot_optimizer_paths


def _gradient(w):
    return np.array([w[0] / 10, 2 * w[1]])  # of x**2/20 + y**2


def test_sgd_and_momentum_by_hand():
    w, path = np.array([-7.0, 2.0]), optimizer_path(optim.SGD(lr=0.95), BOWL.f, BOWL.start, steps=30)
    assert path.shape == (31, 2)
    for point in path:
        np.testing.assert_allclose(point, w, atol=1e-6)
        w = w - 0.95 * _gradient(w)
    w, v = np.array([-7.0, 2.0]), 0.0
    for point in optimizer_path(optim.Momentum(lr=0.1), BOWL.f, BOWL.start, steps=30):
        np.testing.assert_allclose(point, w, atol=1e-6)
        v = 0.9 * v - 0.1 * _gradient(w)
        w = w + v


def test_all_go_down_the_bowl_and_sgd_alone_stays_at_the_saddle():
    for name, lr in BOWL.rates.items():
        path = optimizer_path(optim.by_name(name, lr=lr), BOWL.f, BOWL.start, steps=30)
        assert BOWL.f(*path[-1]) < BOWL.f(*path[0]) / 2, name
    assert BOWL.rates.keys() == SADDLE.rates.keys()
    for name, lr in SADDLE.rates.items():
        path = optimizer_path(optim.by_name(name, lr=lr), SADDLE.f, SADDLE.start, steps=30)
        left = bool(abs(path[-1, 0]) > 0.5)
        assert left == (name != "sgd"), (name, path[-1])
    assert np.hypot(*optimizer_path(optim.SGD(lr=0.1), SADDLE.f, SADDLE.start, steps=30)[-1]) < 0.05
    exactly = optimizer_path(optim.SGD(lr=0.1), SADDLE.f, (0.0, 1.0), steps=200)[-1]
    np.testing.assert_allclose(exactly, [0.0, 0.0], atol=1e-12)  # on the ridge it never leaves


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_the_selected_backend_makes_no_difference(name):
    try:
        with backend.using(name):
            path = optimizer_path(optim.Adam(lr=0.3), BOWL.f, BOWL.start)
    except backend.BackendUnavailableError as error:
        pytest.skip(str(error))
    assert np.array_equal(path, optimizer_path(optim.Adam(lr=0.3), BOWL.f, BOWL.start))


def test_the_picture_shows_the_paths():
    from matplotlib.figure import Figure

    figure = plot_optimizer_paths(steps=5)
    assert len(figure.axes) == len(BOWL.rates) + len(SADDLE.rates)
    assert figure.axes[0].get_title() == "SGD on x²/20 + y²"
    expected = optimizer_path(optim.SGD(lr=0.95), BOWL.f, BOWL.start, steps=5)
    np.testing.assert_array_equal(np.stack(figure.axes[0].lines[0].get_data(), axis=1), expected)
    flat = Surface("flat", lambda x, y: 0.0 * x * y, (1.0, 1.0), (-2.0, 2.0), (-3.0, 3.0), {})
    own = Figure()
    drawn = plot_optimizer_paths([BOWL], {"a": lambda: optim.SGD(lr=0.1)}, steps=2, ax=own.add_subplot())
    assert drawn is own
    assert own.axes[0].get_xlim() == BOWL.x_range
    with pytest.raises(ValueError, match="at least one surface and one optimizer"):
        plot_optimizer_paths([flat])
    with pytest.raises(ValueError, match="14 axes needed, one for each optimizer on each surface; got 1"):
        plot_optimizer_paths(steps=2, ax=own.axes)


def test_bad_paths():
    with pytest.raises(ValueError, match="steps must be a positive int, got 0"):
        optimizer_path(optim.SGD(), BOWL.f, BOWL.start, steps=0)
    with pytest.raises(ValueError, match=r"SGD\(lr=100.0.*leaves the finite numbers; lower its learning rate"):
        optimizer_path(optim.SGD(lr=100.0), lambda x, y: x**4 + y**4, (3.0, 3.0), steps=20)
    used = optim.SGD()
    used.update(Dense(1).build((1,)))
    with pytest.raises(StateError, match="belongs to another model"):
        optimizer_path(used, BOWL.f, BOWL.start)
