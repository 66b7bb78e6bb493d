"""The layers of global and adaptive pooling against the functional pairs."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import AdaptivePool2D, Dense, GlobalPool2D, Sequential
from xpnet.testing import assert_close

LAYERS = [
    (GlobalPool2D, {}, F.global_pool2d_forward, F.global_pool2d_backward),
    (GlobalPool2D, {"mode": "max", "keepdims": True}, F.global_pool2d_forward, F.global_pool2d_backward),
    (GlobalPool2D, {"mode": "lp", "p": 3}, F.global_pool2d_forward, F.global_pool2d_backward),
    (AdaptivePool2D, {"output_size": (3, 4)}, F.adaptive_pool2d_forward, F.adaptive_pool2d_backward),
    (AdaptivePool2D, {"output_size": 2, "mode": "max"}, F.adaptive_pool2d_forward, F.adaptive_pool2d_backward),
]


def last(a):
    return a.transpose(0, 2, 3, 1) if a.ndim == 4 else a


@pytest.mark.parametrize(
    "kind, settings, forward, backward", LAYERS, ids=lambda v: str(v) if isinstance(v, dict) else ""
)
def test_equals_the_functional_pair(xp, rng, kind, settings, forward, backward):
    layer = kind(**settings).build((2, 7, 6))
    x = xp.asarray(rng.normal(size=(3, 2, 7, 6)), "float32")
    y, ctx = forward(x, **settings)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert layer.output_shape((2, 7, 6)) == tuple(y.shape[1:])
    dy = xp.asarray(rng.normal(size=tuple(y.shape)), "float32")
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(backward(dy, ctx)))
    layer.forward(x)
    assert layer.backward(dy, need_dx=False) is None
    assert layer.parameters() == []

    nhwc = kind(data_format="NHWC", **settings).build((7, 6, 2))
    y_last = nhwc.forward(xp.asarray(last(backend.to_numpy(x))))
    assert_close(y_last, last(xp.to_numpy(y)), terms=42)
    assert nhwc.output_shape((7, 6, 2)) == tuple(y_last.shape[1:])
    dx_last = nhwc.backward(xp.asarray(last(backend.to_numpy(dy))))
    assert_close(dx_last, last(xp.to_numpy(backward(dy, ctx))), terms=42)


def test_any_size_of_image_in_one_model():
    model = Sequential(AdaptivePool2D(2, mode="max"), GlobalPool2D(), Dense(3)).build((4, 8, 8))
    for size in ((8, 8), (5, 9), (1, 1)):
        assert model(np.ones((2, 4, *size), np.float32)).shape == (2, 3)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: GlobalPool2D(mode="mean"), "GlobalPool2D: mode must be one of max, average, lp, got 'mean'"),
        (lambda: GlobalPool2D(mode="lp", p=0.5), r"GlobalPool2D: p must be a finite number of at least 1, got 0\.5"),
        (lambda: GlobalPool2D(data_format="HWC"), "GlobalPool2D: data_format must be one of NCHW, NHWC, got 'HWC'"),
        (lambda: AdaptivePool2D(0), "AdaptivePool2D: output_size must be at least 1, got 0"),
        (lambda: AdaptivePool2D(2, mode="lp"), "AdaptivePool2D: mode must be one of max, average, got 'lp'"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        make()


def test_input_that_is_no_image():
    with pytest.raises(ShapeError, match=r"GlobalPool2D: the input must be images .* without the batch"):
        GlobalPool2D().build((8,))
    with pytest.raises(ShapeError, match=r"AdaptivePool2D: the input must be images .* without the batch"):
        AdaptivePool2D(2).build((2, 3, 8, 8))


def test_repr():
    assert repr(GlobalPool2D()) == "GlobalPool2D(mode='average')"
    shown = "GlobalPool2D(mode='lp', p=3, keepdims=True, data_format='NHWC')"
    assert repr(GlobalPool2D(mode="lp", p=3, keepdims=True, data_format="NHWC")) == shown
    assert repr(AdaptivePool2D(2)) == "AdaptivePool2D(output_size=(2, 2), mode='average')"
    assert repr(AdaptivePool2D((2, 3), mode="max", data_format="NHWC")).endswith("mode='max', data_format='NHWC')")
