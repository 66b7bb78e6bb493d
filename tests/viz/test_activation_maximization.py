"""Activation maximisation against what the climb of a linear unit must give, and that it climbs elsewhere."""

import numpy as np
import pytest

from xpnet.backend import to_numpy
from xpnet.errors import ArgumentError, ShapeError, StateError
from xpnet.layers import Conv2D, Dense, Flatten, Sequential
from xpnet.models import LeNet
from xpnet.testing import assert_close
from xpnet.viz import feature_maps, maximize_activation, plot_activation_maximization


def _linear(rng):
    model = Sequential(Flatten(), Dense(3))
    model(rng.normal(size=(1, 2, 3, 3)))  # built in float64
    return model


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_the_climb_of_a_linear_unit(rng, decay):
    """x += lr (w/rms(w) - decay x) from x0: x_n = x* + (1 - lr decay)^n (x0 - x*), or n equal steps without decay."""
    model, start = _linear(rng), rng.normal(size=(2, 3, 3))
    w = model[1].W.data[:, 1].reshape(2, 3, 3)
    w = w / np.sqrt((w**2).mean())
    x = maximize_activation(model, "1", 1, steps=7, lr=0.2, decay=decay, start=start)
    expected = start + 7 * 0.2 * w if not decay else w / decay + (1 - 0.2 * decay) ** 7 * (start - w / decay)
    assert_close(x, expected, rtol=1e-10)


def test_one_position_of_a_convolution_draws_its_kernel(rng):
    model = Sequential(Conv2D(4, 3))
    model(rng.normal(size=(1, 2, 8, 8)))
    x = maximize_activation(model, "0", (2, 1, 4), steps=1, lr=1.0, start=np.zeros((2, 8, 8)))
    kernel = np.zeros((2, 8, 8))
    kernel[:, 1:4, 4:7] = model[0].W.data[2]
    assert_close(x, kernel / np.sqrt((kernel**2).mean()), rtol=1e-10)


@pytest.mark.parametrize(
    "layer, unit", [("conv", 1), ("block", 0), ("block.body.0", 3), ("join.1", (2, 1, 0)), ("output", 2)]
)
def test_it_climbs_and_leaves_the_model_alone(xp, rng, branching, untouched, layer, unit):
    x = xp.asarray(rng.normal(size=(2, 2, 6, 6)), "float32")
    model = branching()
    with untouched(model, x):
        found = maximize_activation(model, layer, unit, steps=8, lr=0.3, start=x[0, ...])
        assert xp.to_numpy(found).dtype == np.float32
        index = unit if isinstance(unit, tuple) else (unit,)
        before, after = (
            float(to_numpy(feature_maps(model, image[None, ...], [layer])[layer])[(0, *index)].mean())
            for image in (x[0, ...], found)
        )
    assert after > before + 0.1


def test_bounds_hold_and_the_start_is_the_same_everywhere(xp):
    model = LeNet(activation="relu").build((1, 28, 28), rng=2)
    found = xp.to_numpy(maximize_activation(model, "output", 3, steps=1, lr=1e-6, bounds=(0.0, 1.0), seed=5))
    noise = 0.5 + 0.1 * np.random.Generator(np.random.Philox(key=[5, 0])).standard_normal((1, 28, 28))
    assert_close(found, noise.astype(np.float32), rtol=0, atol=1e-4)
    far = xp.to_numpy(maximize_activation(model, "output", 3, steps=5, lr=1.0, bounds=(0.25, 0.75)))
    assert far.min() == 0.25
    assert far.max() == 0.75


def test_a_figure_of_several_units(xp, rng):
    from matplotlib.figure import Figure

    model = LeNet(activation="relu").build((1, 28, 28), rng=2)
    figure = plot_activation_maximization(model, "conv2", [0, (1, 2, 3)], steps=2)
    assert [ax.get_title() for ax in figure.axes] == ["conv2: 0", "conv2: (1, 2, 3)"]
    shown = figure.axes[1].images[0].get_array()
    assert np.array_equal(shown, xp.to_numpy(maximize_activation(model, "conv2", (1, 2, 3), steps=2))[0])
    own = Figure()
    assert plot_activation_maximization(model, "output", 7, steps=1, ax=own.add_subplot()) is own
    with pytest.raises(ValueError, match="2 axes needed, one for each unit; got 1"):
        plot_activation_maximization(model, "output", [1, 2], steps=1, ax=own.axes)
    with pytest.raises(ValueError, match="at least one unit"):
        plot_activation_maximization(model, "output", [])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer": "conv9"}, r"the LeNet has no layer 'conv9'; did you mean 'conv1'\? It has conv1, "),
        ({"layer": 3}, "the LeNet has no layer 3; it has conv1, "),
        (
            {"unit": 6},
            r"unit must be a channel, or \(channel, row, column\), within \(6, 24, 24\), the output of 'conv1'",
        ),
        ({"unit": (1, 2)}, r"unit must be a channel, or .*; got \(1, 2\)"),
        ({"layer": "output", "unit": -1}, r"unit must be an int within \(10,\), the output of 'output'; got -1"),
        ({"steps": 0}, "steps must be a positive int, got 0"),
        ({"lr": -1.0}, "lr must be finite and at least 0"),
        ({"decay": float("nan")}, "decay must be finite and at least 0"),
        ({"bounds": (1.0, 0.0)}, r"bounds must be \(low, high\) with low < high"),
    ],
)
def test_bad_settings(settings, message):
    model = LeNet().build((1, 28, 28))
    with pytest.raises(ArgumentError, match=message):
        maximize_activation(model, **{"layer": "conv1", "unit": 0, "steps": 1} | settings)


def test_bad_models_and_starts():
    with pytest.raises(StateError, match="LeNet: maximize_activation needs parameters"):
        maximize_activation(LeNet(), "conv1", 0)
    with pytest.raises(ShapeError, match=r"start must have the model's input shape \(1, 28, 28\), got \(28, 28\)"):
        maximize_activation(LeNet().build((1, 28, 28)), "conv1", 0, start=np.zeros((28, 28)))
