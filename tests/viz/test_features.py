"""Filters and feature maps: that the pictures show the arrays they should."""

import os
import subprocess
import sys

import numpy as np
import pytest

from xpnet.backend import to_numpy
from xpnet.errors import ArgumentError, MissingDependencyError, ShapeError, StateError
from xpnet.layers import Conv2D, Dense, Flatten, Sequential
from xpnet.models import LeNet
from xpnet.viz import feature_maps, plot_feature_maps, plot_filters


def _tile(shown, i, columns, h, w):
    top, left = i // columns * (h + 1), i % columns * (w + 1)
    return shown[top : top + h, left : left + w]


def _stretched(a):
    return (a - a.min()) / (a.max() - a.min())


def test_grey_filters_before_and_after(xp):
    model = LeNet().build((1, 28, 28), rng=0)
    before = model.state_dict()
    old = xp.to_numpy(before["conv1.W"]).copy()
    model["conv1"].W.data[...] = 2.0 * model["conv1"].W.data + 1.0
    model["conv1"].W.data[0, 0, 0, 0] = 50.0
    figure = plot_filters(model, before=before)
    assert [ax.get_title() for ax in figure.axes] == ["conv1.W before", "conv1.W"]
    first, now = (ax.images[0].get_array() for ax in figure.axes)
    assert first.shape == now.shape == (2 * 5 + 1, 3 * 5 + 2)  # six filters in rows of three, a pixel apart
    assert np.all(np.ma.getmaskarray(first)[5])
    for i in range(6):
        np.testing.assert_allclose(_tile(first, i, 3, 5, 5), _stretched(old[i, 0]), rtol=1e-6)
    np.testing.assert_allclose(_tile(now, 0, 3, 5, 5)[0, 0], 1.0)
    np.testing.assert_allclose(_tile(now, 1, 3, 5, 5), _stretched(old[1, 0]), rtol=1e-4)
    alone = plot_filters(model, before=before["conv1.W"]).axes[0].images[0].get_array()
    assert np.ma.allequal(alone, first)


def test_filters_of_three_channels_are_coloured_and_of_more_are_rows(rng):
    model = Sequential(Conv2D(4, 3), Conv2D(2, 3)).build((3, 9, 9))
    shown = plot_filters(model).axes[0].images[0].get_array()
    assert shown.shape == (2 * 3 + 1, 2 * 3 + 1, 3)
    w = np.moveaxis(model[0].W.data[3].astype(np.float64), 0, -1)
    np.testing.assert_allclose(_tile(shown, 3, 2, 3, 3), _stretched(w), rtol=1e-6)
    rows = plot_filters(model, "1").axes[0].images[0].get_array()
    assert rows.shape == (2 * 3 + 1, 4 * 3 + 3)  # a row for each filter, a column for each channel
    one = model[1].W.data[1, 2].astype(np.float64)
    np.testing.assert_allclose(_tile(rows, 1 * 4 + 2, 4, 3, 3), _stretched(one), rtol=1e-6)
    assert plot_filters(model, "1", limit=1).axes[0].images[0].get_array().shape == (3, 3)
    lone = Conv2D(4, 3).build((1, 9, 9))
    assert plot_filters(lone).axes[0].get_title() == "W"


def test_constant_filters_are_grey_and_not_nan():
    figure = plot_filters(Conv2D(1, 3, init="zeros").build((1, 9, 9)))
    assert np.all(figure.axes[0].images[0].get_array() == 0.5)


def test_feature_maps_are_the_outputs_on_the_way(xp, rng, branching, untouched):
    x = xp.asarray(rng.normal(size=(2, 2, 4, 4)), "float32")
    model = branching()
    with untouched(model, x):
        maps = feature_maps(model, x)
        block = model["norm"](model["conv"](x))
        inner = model["block"].body[0](block)
        assert np.array_equal(xp.to_numpy(maps["block.body.0"]), xp.to_numpy(inner))
        assert np.array_equal(xp.to_numpy(maps["block.shortcut"]), xp.to_numpy(block))
        assert np.array_equal(xp.to_numpy(maps["block"]), xp.to_numpy(model["block"](block)))
        assert np.array_equal(xp.to_numpy(maps["output"]), xp.to_numpy(model(x)))
        assert set(maps) == {path for path, _ in model.named_layers() if path}
        assert list(feature_maps(model, x, ["pool", "conv"])) == ["pool", "conv"]


def test_a_figure_of_feature_maps(xp, rng):
    from matplotlib.figure import Figure

    image = rng.random((1, 28, 28)).astype(np.float32)
    model = LeNet().build((1, 28, 28), rng=0)
    figure = plot_feature_maps(model, xp.asarray(image))
    assert [ax.get_title() for ax in figure.axes] == ["image", "conv1", "pool1", "conv2", "pool2"]
    assert np.array_equal(figure.axes[0].images[0].get_array(), image[0])
    maps = to_numpy(feature_maps(model, xp.asarray(image[None]), ["conv2"])["conv2"])[0].astype(np.float64)
    shown = figure.axes[3].images[0].get_array()
    assert shown.shape == (4 * 8 + 3, 4 * 8 + 3)
    for i in (0, 5, 15):
        np.testing.assert_allclose(_tile(shown, i, 4, 8, 8), _stretched(maps[i]), rtol=1e-6)
    own = Figure()
    axes = own.subplots(1, 2)
    assert plot_feature_maps(model, xp.asarray(image), ["conv2"], limit=4, ax=axes) is own
    assert axes[1].images[0].get_array().shape == (2 * 8 + 1, 2 * 8 + 1)


def test_images_of_nhwc_models(rng):
    image = rng.random((9, 9, 3))
    model = Sequential(Conv2D(5, 3, data_format="NHWC"))
    model(image[None])
    picture, maps = plot_feature_maps(model, image).axes
    np.testing.assert_array_equal(picture.images[0].get_array(), image)
    y = model(image[None])[0, :, :, 4]
    np.testing.assert_allclose(_tile(maps.images[0].get_array(), 4, 3, 7, 7), _stretched(y))


def test_what_cannot_be_drawn_is_said(rng):
    model, image = LeNet().build((1, 28, 28)), rng.random((1, 28, 28))
    with pytest.raises(ArgumentError, match="'dense1' has no filters; layers that have: conv1, conv2"):
        plot_filters(model, "dense1")
    with pytest.raises(ArgumentError, match=r"the LeNet has no layer 'conv7'; did you mean 'conv1'\? It has"):
        plot_filters(model, "conv7")
    with pytest.raises(ArgumentError, match=r"before has no array 'conv2.W'; did you mean 'conv1.W'\? It has conv1.W"):
        plot_filters(model, "conv2", before={"conv1.W": model["conv1"].W.data})
    with pytest.raises(ShapeError, match=r"before has shape \(1, 5, 5\) but the filters are \(6, 1, 5, 5\)"):
        plot_filters(model, before=np.zeros((1, 5, 5)))
    with pytest.raises(StateError, match="plot_filters needs parameters"):
        plot_filters(LeNet())
    with pytest.raises(ArgumentError, match="the Dense has no convolution with filters"):
        plot_filters(Dense(2).build((3,)))
    with pytest.raises(ValueError, match="2 axes needed, one for the filters before"):
        plot_filters(model, before=model.state_dict(), ax=[])
    with pytest.raises(ArgumentError, match="the LeNet has no layer 'conv7'"):
        feature_maps(model, image[None], ["conv7"])
    with pytest.raises(ArgumentError, match="the output of flatten, dense1 is no image but features"):
        plot_feature_maps(model, image, ["conv1", "flatten", "dense1"])
    with pytest.raises(ValueError, match="3 axes needed, one for the image and one each for conv1, pool1; got 2"):
        plot_feature_maps(model, image, ["conv1", "pool1"], ax=[None, None])
    flat = Sequential(Flatten(), Dense(2)).build((1, 4, 4))
    with pytest.raises(ArgumentError, match="no layer of the Sequential makes images"):
        plot_feature_maps(flat, np.zeros((1, 4, 4)))


def test_no_display_is_touched_and_pyplot_never_imported():
    code = """
import sys, numpy as np
from xpnet import models, viz
assert not any(name.startswith("matplotlib") for name in sys.modules)
model = models.LeNet().build((1, 28, 28))
image = np.zeros((1, 28, 28), np.float32)
for figure in (viz.plot_filters(model), viz.plot_feature_maps(model, image), viz.plot_model(model),
               viz.plot_receptive_fields(model, image), viz.plot_saliency(model, image),
               viz.plot_optimizer_paths(steps=2), viz.plot_confusion_matrix(np.eye(3, dtype=int))):
    figure.canvas.draw()
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_without_matplotlib_the_install_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"plotting needs matplotlib; pip install 'xpnet\[train\]'"):
        plot_filters(LeNet().build((1, 28, 28)))
