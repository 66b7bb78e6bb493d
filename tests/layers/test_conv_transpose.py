"""The layers of transposed and of separable convolution against the functional pairs and torch."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Conv2D, ConvTranspose2D, SeparableConv2D
from xpnet.testing import assert_close

SETTINGS = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (1, 2), "padding": "same", "groups": 2, "activation": "tanh"},
    {"padding": ((1, 0), (2, 1)), "dilation": (2, 1), "bias": False},
]
TORCH = [s for s in SETTINGS if not isinstance(s.get("padding", 0), str | tuple)] + [
    {"stride": (2, 3), "padding": (1, 0), "output_padding": (0, 2), "dilation": (1, 2), "groups": 2}
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_transposed_equals_the_functional_pair(xp, rng, settings):
    layer = ConvTranspose2D(4, (3, 2), bias_init="normal", **settings).build((2, 5, 4), rng=1)
    options = {k: v for k, v in settings.items() if k not in ("bias", "activation")}
    x = xp.asarray(rng.normal(size=(3, 2, 5, 4)), "float32")
    y, ctx = F.conv_transpose2d_forward(x, layer.W.data, layer.b.data if layer.bias else None, **options)
    assert layer.output_shape((2, 5, 4)) == tuple(y.shape[1:])
    dy = xp.asarray(rng.normal(size=tuple(y.shape)), "float32")
    through = dy
    if layer.activation:
        y, activation_ctx = F.tanh_forward(y)
        through = F.tanh_backward(dy, activation_ctx)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    dx, dW, db = F.conv_transpose2d_backward(through, ctx)
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(dx))
    assert np.array_equal(xp.to_numpy(layer.W.grad), xp.to_numpy(dW))
    assert layer.bias == (db is not None) == ("b" in [p.name for p in layer.parameters()])
    if layer.bias:
        assert np.array_equal(xp.to_numpy(layer.b.grad), xp.to_numpy(db))
    layer.forward(x)
    assert layer.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("settings", TORCH, ids=str)
def test_transposed_equals_torch(rng, settings):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.ConvTranspose2d(2, 4, (3, 2), dtype=torch.float64, **settings)
    with backend.using("numpy", dtype="float64"):
        layer = ConvTranspose2D(4, (3, 2), **settings).build((2, 5, 4))
    layer.load_state_dict({"W": theirs.weight, "b": theirs.bias})
    x = torch.tensor(rng.normal(size=(3, 2, 5, 4)), requires_grad=True)
    y = theirs(x)
    dy = rng.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    assert_close(layer.forward(x.detach().numpy()), y.detach().numpy(), terms=12)
    assert_close(layer.backward(dy), x.grad.numpy(), terms=24)
    assert_close(layer.W.grad, theirs.weight.grad.numpy(), terms=60)
    assert_close(layer.b.grad, theirs.bias.grad.numpy(), terms=300)


def _separable(x, layer, torch):
    T, d = torch.nn.functional, layer
    h = T.conv2d(x[0], x[1], None, d.stride, d.padding, d.dilation, groups=x[0].shape[1])
    return T.conv2d(h, x[2], x[3])


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1, "multiplier": 2}, {"dilation": 2, "multiplier": 3}]
)
def test_separable_equals_torch(rng, settings):
    torch = pytest.importorskip("torch")
    with backend.using("numpy", dtype="float64"):
        layer = SeparableConv2D(4, (3, 2), bias_init="normal", **settings).build((3, 7, 6), rng=1)
    host = [rng.normal(size=(2, 3, 7, 6)), *(p.data for p in (layer.depthwise_W, layer.pointwise_W, layer.b))]
    tensors = [torch.tensor(np.array(a), requires_grad=True) for a in host]
    y = _separable(tensors, layer, torch)
    dy = rng.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    assert layer.output_shape((3, 7, 6)) == tuple(y.shape[1:])
    assert_close(layer.forward(host[0]), y.detach().numpy(), terms=54)
    got = [layer.backward(dy), layer.depthwise_W.grad, layer.pointwise_W.grad, layer.b.grad]
    for mine, theirs in zip(got, tensors, strict=True):
        assert_close(mine, theirs.grad.numpy(), terms=200)


def test_separable_is_depthwise_and_pointwise(xp, rng):
    layer = SeparableConv2D(5, 3, padding="same", activation="relu", bias_init="normal").build((4, 6, 5), rng=3)
    x = xp.asarray(rng.normal(size=(2, 4, 6, 5)), "float32")
    h, _ = F.conv2d_forward(x, layer.depthwise_W.data, padding="same", groups=4)
    y, _ = F.relu_forward(F.conv2d_forward(h, layer.pointwise_W.data, layer.b.data)[0])
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert tuple(layer.backward(y).shape) == (2, 4, 6, 5)
    layer.forward(x)
    assert layer.backward(y, need_dx=False) is None


def test_parameter_counts():
    """K*K*C + C*F in place of K*K*C*F; a group sees its own channels alone."""

    def count(layer, shape):
        return sum(p.size for p in layer.build(shape).parameters())

    assert count(SeparableConv2D(4, 2, bias=False), (2, 8, 8)) == 2 * 2 * 2 + 2 * 4 == 16
    assert count(Conv2D(4, 2, bias=False), (2, 8, 8)) == 32
    assert count(Conv2D(2, 2, groups=2, bias=False), (4, 8, 8)) == 16
    assert count(SeparableConv2D(4, 3, multiplier=2), (2, 8, 8)) == 9 * 4 + 4 * 4 + 4
    assert count(ConvTranspose2D(4, 2), (2, 8, 8)) == 32 + 4
    assert count(ConvTranspose2D(4, 2, groups=2, bias=False), (2, 8, 8)) == 16
    layer = SeparableConv2D(4, 3).build((2, 8, 8))
    assert [p.name for p in layer.parameters()] == ["depthwise_W", "pointwise_W", "b"]
    assert [p.decay for p in layer.parameters()] == [True, True, False]


@pytest.mark.parametrize(
    "kind, options",
    [
        (ConvTranspose2D, {"stride": (1, 2), "padding": ((1, 0), (0, 1)), "output_padding": (0, 1)}),
        (SeparableConv2D, {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "multiplier": 2}),
    ],
)
def test_nhwc_equals_nchw(xp, rng, kind, options):
    options |= {"activation": "tanh", "bias_init": "normal"}
    first = kind(4, (3, 2), **options).build((2, 7, 6), rng=2)
    last = kind(4, (3, 2), data_format="NHWC", **options).build((7, 6, 2), rng=2)
    assert [p.shape for p in last.parameters()] == [p.shape for p in first.parameters()]
    C, OH, OW = first.output_shape((2, 7, 6))
    assert last.output_shape((7, 6, 2)) == (OH, OW, C)
    x, dy = rng.normal(size=(3, 2, 7, 6)), rng.normal(size=(3, C, OH, OW))
    y = first.forward(xp.asarray(x, "float32"))
    dx = first.backward(xp.asarray(dy, "float32"))
    y_last = last.forward(xp.asarray(x.transpose(0, 2, 3, 1), "float32"))
    dx_last = last.backward(xp.asarray(dy.transpose(0, 2, 3, 1), "float32"))
    assert_close(y_last, xp.to_numpy(y).transpose(0, 2, 3, 1), terms=24)
    assert_close(dx_last, xp.to_numpy(dx).transpose(0, 2, 3, 1), terms=24)
    for mine, other in zip(last.parameters(), first.parameters(), strict=True):
        assert_close(mine.grad, xp.to_numpy(other.grad), terms=200)


def test_fans_of_a_transposed_convolution():
    """With stride 2 an output pixel sees a quarter of the kernel: outputs keep the variance that He aims at."""
    layer = ConvTranspose2D(64, 4, stride=2, padding="same").build((64, 8, 8), rng=0)
    assert abs(float(layer.W.data.std()) / (2 / (64 * 16 / 4)) ** 0.5 - 1) < 0.01


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: ConvTranspose2D(0, 3), "ConvTranspose2D: filters must be a positive int, got 0"),
        (
            lambda: ConvTranspose2D(8, 3, output_padding=-1),
            "ConvTranspose2D: output_padding must be at least 0, got -1",
        ),
        (lambda: ConvTranspose2D(8, 3, groups=0), "ConvTranspose2D: groups must be a positive int, got 0"),
        (
            lambda: ConvTranspose2D(8, 3, output_padding=1).build((1, 5, 5)),
            "ConvTranspose2D: output_padding must be less than stride or dilation, got",
        ),
        (lambda: SeparableConv2D(8, 3, multiplier=0), "SeparableConv2D: multiplier must be a positive int, got 0"),
        (lambda: SeparableConv2D(8, 3, activation="swash"), "SeparableConv2D: no activation 'swash'; there are"),
        (lambda: SeparableConv2D(8, 3, data_format="CHW"), "SeparableConv2D: data_format must be one of NCHW, NHWC"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match="ConvTranspose2D: groups=3 must divide the 4 channels of the input and the 6"):
        ConvTranspose2D(6, 3, groups=3).build((4, 8, 8))
    with pytest.raises(
        ShapeError, match=r"ConvTranspose2D: the output would have -1 rows: \(1 - 1\)\*1 - 2 - 2 \+ 1\*"
    ):
        ConvTranspose2D(6, 3, padding=2).build((4, 1, 8))
    with pytest.raises(ShapeError, match="SeparableConv2D: the output would have 0 rows: floor"):
        SeparableConv2D(6, 3).build((4, 2, 8))


def test_repr():
    assert repr(ConvTranspose2D(6, 5)) == "ConvTranspose2D(filters=6, kernel_size=(5, 5))"
    assert repr(ConvTranspose2D(6, 5, stride=2, output_padding=1, activation="relu", data_format="NHWC")) == (
        "ConvTranspose2D(filters=6, kernel_size=(5, 5), stride=(2, 2), output_padding=(1, 1), activation='relu', "
        "data_format='NHWC')"
    )
    assert repr(SeparableConv2D(6, 5, padding="same", multiplier=2, bias=False)) == (
        "SeparableConv2D(filters=6, kernel_size=(5, 5), padding='same', multiplier=2, bias=False)"
    )
