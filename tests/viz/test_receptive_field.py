"""Receptive fields against published sizes, and against which pixels really reach a unit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import (
    AdaptivePool2D,
    BatchNorm,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Flatten,
    GlobalPool2D,
    Layer,
    Parallel,
    Pool2D,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
)
from xpnet.models import VGG, AlexNet, LeNet, MobileNet, ResNet
from xpnet.viz import plot_receptive_fields, receptive_fields


@pytest.mark.parametrize(
    "model, path, size, jump",
    [
        (AlexNet(), "conv5", 163, 16),
        (AlexNet(), "pool5", 195, 32),
        (VGG(16), "conv5_3", 196, 16),
        (VGG(16), "pool5", 212, 32),
        (MobileNet(), "pointwise13", 315, 32),  # the three networks in the table of Araujo et al.
        (ResNet(50), "relu4_3", 427, 32),  # with the stride at the 3x3 convolution, at the first block of a stage
    ],
    ids=["alexnet conv5", "alexnet pool5", "vgg16 conv5_3", "vgg16 pool5", "mobilenet", "resnet50"],
)
def test_published_sizes(model, path, size, jump):
    fields = {field.path: field for field in receptive_fields(model, (3, 224, 224))}
    assert fields[path].size == (size, size)
    assert fields[path].jump == (jump, jump)


def test_lenet_by_hand():
    found = [(f.path, f.kind, f.output_shape, f.size[0], f.jump[0], f.start[0]) for f in
             receptive_fields(LeNet().build((1, 28, 28)))]  # fmt: skip
    assert found == [
        ("conv1", "Conv2D", (6, 24, 24), 5, 1, 2),
        ("pool1", "Pool2D", (6, 12, 12), 6, 2, 2.5),
        ("conv2", "Conv2D", (16, 8, 8), 14, 2, 6.5),
        ("pool2", "Pool2D", (16, 4, 4), 16, 4, 7.5),
    ]
    last = receptive_fields(LeNet(), (1, 28, 28))[-1]
    assert last.extent(0, 3) == (-0.5, 15.5, 11.5, 27.5)


def _reached(model, size):
    """For each output row the first and the last row of the image that reach it, by an impulse in each row."""
    impulses = np.zeros((size, 1, size, size))
    impulses[np.arange(size), 0, np.arange(size)] = 1.0
    y = model(impulses).sum(axis=(1, 3)) > 0.0  # all weights are positive: nothing cancels
    return [(rows.min(), rows.max()) if len(rows) else None for rows in map(np.flatnonzero, y.T)]


def _compare(model, size):
    """Fields inside of the image must be met exactly; of the others what lies inside must contain what reaches."""
    reached = _reached(model, size)
    field = receptive_fields(model, (1, size, size))[-1]
    exact = 0
    for i, rows in enumerate(reached):
        top, bottom, *_ = field.extent(i, 0)
        if top >= -0.5 and bottom <= size - 0.5:
            assert rows == (top + 0.5, bottom - 0.5)
            exact += 1
        elif rows is not None:  # nothing comes through padding between layers
            assert rows[0] >= top + 0.5
            assert rows[1] <= bottom - 0.5
    return exact


def _conv(kernel, **settings):
    return Conv2D(1, kernel, init="ones", bias=False, **settings)


layers = st.builds(
    lambda pool, kernel, stride, padding, dilation: (
        Pool2D(kernel, stride=stride, padding=min(padding, kernel // 2), dilation=dilation, mode="average")
        if pool
        else _conv(kernel, stride=stride, padding=padding, dilation=dilation)
    ),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 2),
)


@settings(max_examples=60)
@given(st.lists(layers, min_size=1, max_size=4))
def test_random_chains_see_what_reaches_them(chain):
    model = Sequential(*chain)
    try:
        model.output_shape((1, 30, 30))
    except ShapeError:
        assume(False)
    # with a stride above the reach of the kernel some rows reach nothing, but both ends of a field always do
    _compare(model, 30)


@pytest.mark.parametrize(
    "model",
    [
        Sequential(_conv(3), SeparableConv2D(1, 4, padding="same", init="ones", bias=False), BatchNorm(), ReLU()),
        Sequential(_conv(2, stride=2), Parallel(_conv(1), _conv(5, padding=2), _conv(3, padding=2, dilation=2))),
        Sequential(Residual(_conv(3, stride=2, padding=1), Pool2D(1, stride=2)), _conv(4, padding=((0, 3), (0, 3)))),
        Sequential(Residual(_conv(4, padding=((3, 0), (3, 0)))), Pool2D(2, mode="average")),
        Sequential(_conv(4, padding="same", stride=2), _conv(2, padding="same")),
        Sequential(_conv(3, padding="full"), AdaptivePool2D(8)),
    ],
    ids=["separable", "parallel", "residual", "one-sided", "same", "adaptive"],
)
def test_branches_and_other_layers_see_what_reaches_them(model):
    assert _compare(model, 30) > 2


@pytest.mark.parametrize("kernel, stride, padding", [(4, 2, 1), (2, 2, 0), (3, 2, 1), (5, 3, 0), (3, 1, 1)])
def test_transposed_convolution(kernel, stride, padding):
    """Units differ in how many inputs they are made of: the field is that of the most."""
    model = Sequential(_conv(3), ConvTranspose2D(1, kernel, stride=stride, padding=padding, init="ones", bias=False))
    reached = _reached(model, 12)
    field = receptive_fields(model, (1, 12, 12))[-1]
    widths = [b - a + 1 for a, b in filter(None, reached)]
    assert max(widths) == field.size[0]
    assert field.jump[0] == pytest.approx(1 / stride)
    centres = [(a + b) / 2 for a, b in filter(None, reached[stride:-stride])]
    claimed = [field.start[0] + i * field.jump[0] for i in range(stride, len(reached) - stride)]
    assert np.max(np.abs(np.subtract(centres, claimed))) <= 0.5


def test_global_pooling_sees_all_and_flattening_ends_the_list():
    fields = receptive_fields(Sequential(Conv2D(2, 3), GlobalPool2D(keepdims=True), Flatten(), Dense(3)), (1, 9, 7))
    assert [f.path for f in fields] == ["0", "1"]
    assert fields[-1].size == (9, 7)
    assert fields[-1].start == (4, 3)
    (alone,) = receptive_fields(Conv2D(2, (3, 5), data_format="NHWC"), (9, 7, 1))
    assert (alone.path, alone.size, alone.output_shape) == ("Conv2D", (3, 5), (7, 3, 2))


class _Half(Layer):
    def output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] // 2, input_shape[2] // 2)


def test_what_cannot_be_told_is_said():
    with pytest.raises(ArgumentError, match="the model is not built: give input_shape, without the batch"):
        receptive_fields(LeNet())
    with pytest.raises(ShapeError, match=r"the input must be images .* got shape \(784,\)"):
        receptive_fields(LeNet(), (784,))
    with pytest.raises(ShapeError, match=r'\(layer "conv2"\)'):
        receptive_fields(LeNet(), (1, 9, 9))
    with pytest.raises(ArgumentError, match=r"layer '0', a _Half, turns images of \(8, 8\) into \(4, 4\)"):
        receptive_fields(Sequential(_Half()), (1, 8, 8))
    uneven = Sequential({"both": Parallel(Conv2D(1, 3, stride=2, padding=1), Conv2D(1, 7, padding=1))})
    with pytest.raises(
        ArgumentError, match=r"branches of both do not line up: their jumps are \(2.0, 2.0\), \(1.0, 1.0\)"
    ):
        receptive_fields(uneven, (1, 8, 8))


def test_a_figure_with_a_rectangle_for_each_layer(xp):
    from matplotlib.figure import Figure

    image = np.zeros((1, 28, 28), np.float32)
    own = Figure()
    axes = own.add_subplot()
    layers = ["conv1", "pool2"]
    assert plot_receptive_fields(LeNet(), xp.asarray(image), layers, unit=(0.0, 1.0), ax=axes) is own
    assert [line.get_label() for line in axes.lines] == ["conv1: 5 x 5", "pool2: 16 x 16"]
    x, y = axes.lines[1].get_data()  # the last column of the first row
    assert (min(x), max(x), min(y), max(y)) == (11.5, 27.5, -0.5, 15.5)
    assert np.array_equal(axes.images[0].get_array(), image[0])
    with pytest.raises(ArgumentError, match="'dense1' gives no image; layers that do: conv1, pool1, conv2, pool2"):
        plot_receptive_fields(LeNet(), image, ["dense1"])
    with pytest.raises(ArgumentError, match="no layer 'conv9'"):
        plot_receptive_fields(LeNet(), image, ["conv9"])
    with pytest.raises(ArgumentError, match="unit must be two numbers from 0 to 1"):
        plot_receptive_fields(LeNet(), image, unit=(0, 5))
