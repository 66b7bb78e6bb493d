"""The drawing of a model: a box for each layer, branches side by side."""

import pytest

from xpnet.errors import ArgumentError, ShapeError, StateError
from xpnet.layers import Conv2D, Dense, Flatten, Identity, Parallel, Residual, Sequential
from xpnet.models import GoogLeNet, LeNet, ResNet
from xpnet.viz import plot_model


def _boxes(figure):
    from matplotlib.patches import Rectangle

    (ax,) = figure.axes
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == len(ax.texts)
    return {
        text.get_text(): (box.get_x(), box.get_y(), box.get_x() + box.get_width(), box.get_y() + box.get_height())
        for text, box in zip(ax.texts, boxes, strict=True)
    }


def test_a_chain():
    figure = plot_model(LeNet().build((1, 28, 28)))
    boxes = _boxes(figure)
    assert list(boxes) == [
        "input\n1 x 28 x 28",
        "conv1\nConv2D\n6 x 24 x 24, 156 parameters",
        "pool1\nPool2D\n6 x 12 x 12",
        "conv2\nConv2D\n16 x 8 x 8, 2,416 parameters",
        "pool2\nPool2D\n16 x 4 x 4",
        "flatten\nFlatten\n256",
        "dense1\nDense\n120, 30,840 parameters",
        "dense2\nDense\n84, 10,164 parameters",
        "output\nDense\n10, 850 parameters",
    ]
    tops = [top for _, top, _, _ in boxes.values()]
    assert tops == sorted(tops)
    assert figure.axes[0].get_title() == "LeNet\n44,426 parameters"
    arrows = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_arrowstyle")]
    assert len(arrows) == len(boxes) - 1


def test_branches_stand_side_by_side_and_merge():
    model = Sequential(
        {
            "both": Parallel({"a": Conv2D(2, 1), "b": Sequential(Conv2D(3, 1), Conv2D(3, 3, padding=1))}),
            "around": Residual(Conv2D(5, 1)),
            "flatten": Flatten(),
            "output": Dense(2),
        }
    )
    boxes = _boxes(plot_model(model, (1, 4, 4)))
    a, b0, b1 = (
        next(box for text, box in boxes.items() if text.startswith(f"both.{p}\n")) for p in ("a", "b.0", "b.1")
    )
    joined, added = boxes["|  5 x 4 x 4"], boxes["+  5 x 4 x 4"]
    assert a[2] <= b0[0]  # beside each other
    assert a[1] == b0[1]
    assert b0[3] <= b1[1]  # below each other
    assert b1[3] <= joined[1]
    assert joined[3] <= added[1]
    assert not any("shortcut" in text for text in boxes)  # the input itself is a line
    assert len(boxes) == 1 + 3 + 1 + 1 + 1 + 2


@pytest.mark.parametrize(
    "model, shape", [(ResNet(20), (3, 32, 32)), (GoogLeNet(), (3, 224, 224))], ids=["resnet", "googlenet"]
)
def test_every_layer_of_a_large_model_has_its_box_and_none_overlap(model, shape):
    boxes = _boxes(plot_model(model, shape))
    leaves = [path for path, layer in model.named_layers() if not layer.children() and type(layer) is not Identity]
    drawn = [text.partition("\n")[0] for text in boxes]
    assert set(leaves) < set(drawn)
    placed = sorted(boxes.values(), key=lambda box: box[1])
    for i, (left, _, right, bottom) in enumerate(placed):
        for other in placed[i + 1 :]:
            assert other[1] >= bottom or other[0] >= right or other[2] <= left


def test_depth_folds_what_is_nested():
    model = ResNet(20)
    figure = plot_model(model, (3, 32, 32), depth=1)
    boxes = _boxes(figure)
    assert len(boxes) == 1 + len(model.children())
    block = sum(p.size for p in model["block2_1"].build((16, 32, 32)).parameters())
    assert f"block2_1\nResidual\n32 x 16 x 16, {block:,} parameters" in boxes
    deeper = _boxes(plot_model(model, (3, 32, 32), depth=2))
    assert "block1_1.body\nSequential\n16 x 32 x 32, 4,672 parameters" in deeper


def test_a_layer_by_itself_and_own_axes():
    from matplotlib.figure import Figure

    own = Figure()
    assert plot_model(Dense(3), (4,), ax=own.add_subplot()) is own
    assert list(_boxes(own)) == ["input\n4", "Dense\n3, 15 parameters"]


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(StateError, match="not built yet: give summary"):
        plot_model(LeNet())
    with pytest.raises(ShapeError, match=r'\(layer "conv2"\)'):
        plot_model(LeNet(), (1, 9, 9))
    with pytest.raises(ArgumentError, match="depth must be a positive int, got 0"):
        plot_model(LeNet(), (1, 28, 28), depth=0)
    with pytest.raises(ValueError, match="1 axes needed, for the drawing; got 0"):
        plot_model(LeNet(), (1, 28, 28), ax=[])
