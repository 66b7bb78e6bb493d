"""Histograms of activations: the numbers by plain NumPy, the book's findings, and that the pictures show them."""

import numpy as np
import pytest

from xpnet import init
from xpnet.backend import to_numpy
from xpnet.layers import Dense
from xpnet.models import LeNet
from xpnet.random import generator
from xpnet.viz import initial_activations, plot_activation_histograms, plot_initial_activations


@pytest.mark.parametrize(
    "activation, formula",
    [("sigmoid", lambda a: 1 / (1 + np.exp(-a))), ("tanh", np.tanh), ("relu", lambda a: np.maximum(a, 0))],
    ids=["sigmoid", "tanh", "relu"],
)
def test_activations_by_plain_products(xp, activation, formula):
    outputs = initial_activations(init.normal(0.3), activation, layers=3, units=7, samples=11, seed=4)
    rng, z = generator(4), generator(4, 1).standard_normal((11, 7))
    for name in ("1", "2", "3"):
        z = formula(z @ (0.3 * rng.standard_normal((7, 7))))
        np.testing.assert_allclose(xp.to_numpy(outputs[name]), z, rtol=1e-4, atol=1e-6)


def test_the_findings_of_the_book():
    """Section 6.2: std 1 saturates, std 0.01 makes all units alike, Xavier spreads, He keeps relu alive."""

    def last(start, activation):
        return to_numpy(initial_activations(start, activation)["5"])

    saturated = last(init.normal(1.0), "sigmoid")
    assert np.mean((saturated < 0.05) | (saturated > 0.95)) > 0.5
    assert last(init.normal(0.01), "sigmoid").std() < 0.03
    assert last("xavier_normal", "sigmoid").std() > 0.08
    assert last("xavier_normal", "tanh").std() > 0.3
    shrunk, kept = last("xavier_normal", "relu"), last("he_normal", "relu")
    assert (kept**2).mean() > 5 * (shrunk**2).mean()  # 2**5 in expectation
    assert last(init.normal(0.01), "relu").max() < 1e-3


def test_histograms_of_any_model(xp, rng, untouched):
    from matplotlib.figure import Figure

    x = xp.asarray(rng.random((3, 1, 28, 28)), "float32")
    model = LeNet().build((1, 28, 28), rng=0)
    with untouched(model, x):
        figure = plot_activation_histograms(model, x, ["pool2", "dense2"], bins=12, range=(0.0, 1.0))
        dense = xp.to_numpy(model(x))
    assert dense.shape == (3, 10)
    assert [ax.get_title() for ax in figure.axes] == ["pool2", "dense2"]
    counts, edges, _ = figure.axes[1].patches[0].get_data()
    assert counts.sum() == 3 * 84  # sigmoid: all in range
    np.testing.assert_allclose(edges, np.linspace(0, 1, 13))
    whole = plot_activation_histograms(model, x)
    assert [ax.get_title() for ax in whole.axes] == list(model.children())
    own = Figure()
    assert plot_activation_histograms(model, x, ["output"], ax=own.add_subplot()) is own
    with pytest.raises(ValueError, match="2 axes needed, one each for conv1, conv2; got 1"):
        plot_activation_histograms(model, x, ["conv1", "conv2"], ax=own.axes)
    with pytest.raises(ValueError, match="no layers to draw"):
        plot_activation_histograms(Dense(2).build((3,)), np.ones((2, 3), np.float32))


def test_a_grid_of_initial_values():
    figure = plot_initial_activations(
        {"He": "he_normal", "small": init.normal(0.01)}, ["relu", "tanh"], layers=2, bins=9
    )
    assert len(figure.axes) == 2 * 2 * 2
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["relu\nHe", "relu\nsmall", "tanh\nHe", "tanh\nsmall"]
    counts, edges, _ = figure.axes[5].patches[0].get_data()  # second layer of tanh, He
    y = to_numpy(initial_activations("he_normal", "tanh", layers=2)["2"])
    np.testing.assert_array_equal(counts, np.histogram(y, bins=9, range=(-1, 1))[0])
    assert (edges[0], edges[-1]) == (-1, 1)
    default = plot_initial_activations(activations=["relu"], layers=1, samples=10)
    assert len(default.axes) == 4
    assert default.axes[1].get_ylabel() == "relu\nnormal, std 0.01"


def test_bad_settings():
    with pytest.raises(ValueError, match="no initialiser 'hee'"):
        initial_activations("hee", "relu")
    with pytest.raises(ValueError, match="no activation 'rellu'"):
        initial_activations("he_normal", "rellu")
    with pytest.raises(ValueError, match="layers must be a positive int, got 0"):
        initial_activations("he_normal", "relu", layers=0)
    with pytest.raises(ValueError, match="at least one initialiser and one activation"):
        plot_initial_activations({})
    with pytest.raises(ValueError, match="20 axes needed, 5 for each of the 4 rows; got 0"):
        plot_initial_activations(activations=["relu"], samples=10, ax=[])
