"""The pooling layer against the functional pair and torch."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Dense, Flatten, Pool2D, Sequential
from xpnet.testing import assert_close

SETTINGS = [
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": (1, 3), "dilation": (2, 1), "padding": ((1, 0), (0, 1))},
    {"kernel_size": 3, "padding": "same", "count_include_pad": False},
    {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True, "p": 3},
]


@pytest.mark.parametrize("mode", ["max", "average", "lp"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_functional_pair(xp, rng, settings, mode):
    layer = Pool2D(mode=mode, **settings).build((2, 7, 6))
    x = xp.asarray(rng.normal(size=(3, 2, 7, 6)), "float32")
    y, ctx = F.pool2d_forward(x, mode=mode, **settings)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert layer.output_shape((2, 7, 6)) == tuple(y.shape[1:])
    dy = xp.asarray(rng.normal(size=tuple(y.shape)), "float32")
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(F.pool2d_backward(dy, ctx)))
    assert layer.parameters() == []

    last = Pool2D(mode=mode, data_format="NHWC", **settings).build((7, 6, 2))
    assert last.output_shape((7, 6, 2)) == (*y.shape[2:], 2)
    y_last = last.forward(xp.asarray(backend.to_numpy(x).transpose(0, 2, 3, 1)))
    assert_close(y_last, xp.to_numpy(y).transpose(0, 2, 3, 1))
    dx_last = last.backward(xp.asarray(backend.to_numpy(dy).transpose(0, 2, 3, 1)))
    assert_close(dx_last, xp.to_numpy(F.pool2d_backward(dy, ctx)).transpose(0, 2, 3, 1), terms=4)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("size, stride, padding", [(2, None, 0), (3, 2, 1), (3, 1, 0), (2, 3, 0)])
def test_equals_torch(rng, mode, size, stride, padding):
    torch = pytest.importorskip("torch")
    kind = torch.nn.MaxPool2d if mode == "max" else torch.nn.AvgPool2d
    x = torch.tensor(rng.normal(size=(3, 2, 7, 8)), requires_grad=True)
    y = kind(size, stride, padding)(x)
    dy = rng.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    layer = Pool2D(size, stride=stride, padding=padding, mode=mode)
    assert_close(layer.forward(x.detach().numpy()), y.detach().numpy(), terms=9)
    assert_close(layer.backward(dy), x.grad.numpy(), terms=9)


def test_worked_example():
    x = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    assert np.array_equal(Pool2D(2)(x)[0, 0], [[6, 8], [14, 16]])
    assert np.array_equal(Pool2D(2, mode="average")(x)[0, 0], [[3.5, 5.5], [11.5, 13.5]])
    assert np.array_equal(Pool2D(2, stride=1)(np.arange(9.0).reshape(1, 1, 3, 3))[0, 0], [[4, 5], [7, 8]])


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Pool2D(0), "kernel_size must be at least 1, got 0"),
        (lambda: Pool2D(2, stride=0), "stride must be at least 1, got 0"),
        (lambda: Pool2D(2, stride="2"), "stride must be an int or a pair of ints, got '2'"),
        (lambda: Pool2D(2, mode="median"), "mode must be one of max, average, lp, got 'median'"),
        (lambda: Pool2D(2, mode="lp", p=0), "p must be a finite number of at least 1, got 0"),
        (lambda: Pool2D(2, data_format="HWC"), "data_format must be one of NCHW, NHWC, got 'HWC'"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=f"^Pool2D: {text}"):
        make()


def test_too_small_an_image():
    with pytest.raises(
        ShapeError, match=r"Pool2D: the output would have 0 rows: floor\(\(2 \+ 0 \+ 0 - 1\*\(3-1\) - 1"
    ):
        Pool2D(3).build((1, 2, 8))


@pytest.mark.parametrize("more, fits", [({}, False), ({"mode": "average", "count_include_pad": False}, False),
                                        ({"mode": "average"}, True), ({"mode": "lp"}, True)])  # fmt: skip
def test_windows_that_see_padding_alone_are_refused_before_anything_is_made(more, fits):
    model = Sequential(Pool2D(2, padding=1, dilation=2, **more), Flatten(), Dense(2))
    if fits:
        assert model.build((3, 1, 4)).predict(np.ones((1, 3, 1, 4), np.float32)).shape == (1, 2)
        return
    with pytest.raises(ShapeError, match=r"layer \"0\".*wholly in the padding"):
        model.build((3, 1, 4))


def test_repr():
    assert repr(Pool2D(2)) == "Pool2D(kernel_size=(2, 2), stride=(2, 2))"
    layer = Pool2D((3, 2), stride=2, padding=1, mode="average", count_include_pad=False, data_format="NHWC")
    assert repr(layer) == (
        "Pool2D(kernel_size=(3, 2), stride=(2, 2), padding=1, mode='average', count_include_pad=False, "
        "data_format='NHWC')"
    )
    assert repr(Pool2D(2, mode="lp", p=3, ceil_mode=True)) == (
        "Pool2D(kernel_size=(2, 2), stride=(2, 2), mode='lp', ceil_mode=True, p=3)"
    )
