"""Upsampling and reshaping: against PyTorch and NumPy, as layers, and in a decoder that learns."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import data
from xpnet.errors import ArgumentError, ShapeError
from xpnet.gradcheck import check_gradients
from xpnet.layers import Conv2D, ConvTranspose2D, Dense, Flatten, Reshape, Sequential, Upsample2D
from xpnet.losses import MeanSquaredError
from xpnet.optim import Adam
from xpnet.testing import assert_close
from xpnet.training import train_step


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("scale", [1, 2, (3, 1), (2, 5)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 1, 6)], ids=str)
def test_equals_torch(rng, mode, scale, shape):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(shape)
    theirs = torch.tensor(x, requires_grad=True)
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    options = {"align_corners": False} if mode == "bilinear" else {}
    expected = torch.nn.functional.interpolate(theirs, scale_factor=scales, mode=mode, **options)
    layer = Upsample2D(scale, mode=mode).build(shape[1:])
    y = layer.forward(x)
    assert_close(y, expected.detach().numpy(), terms=4)
    assert layer.output_shape(shape[1:]) == y.shape[1:]
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    assert_close(layer.backward(dy), theirs.grad.numpy(), terms=40)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_nhwc_is_a_view_of_the_same(xp, rng, mode):
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)  # (N, H, W, C)
    ours, theirs = Upsample2D((2, 3), mode=mode, data_format="NHWC"), Upsample2D((2, 3), mode=mode)
    y = ours.forward(xp.asarray(x))
    expected = theirs.forward(xp.asarray(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
    assert ours.output_shape((3, 4, 2)) == tuple(y.shape[1:]) == (6, 12, 2)
    assert_close(y, xp.to_numpy(expected).transpose(0, 2, 3, 1))
    dy = rng.standard_normal((2, 6, 12, 2)).astype(np.float32)
    dx = theirs.backward(xp.asarray(np.ascontiguousarray(dy.transpose(0, 3, 1, 2))))
    assert_close(ours.backward(xp.asarray(dy)), xp.to_numpy(dx).transpose(0, 2, 3, 1), terms=6)


def test_reshape_is_that_of_numpy(xp, rng):
    layer = Reshape((3, 2, 2)).build((12,))
    x = rng.standard_normal((4, 12)).astype(np.float32)
    assert np.array_equal(xp.to_numpy(layer.forward(xp.asarray(x))), x.reshape(4, 3, 2, 2))
    dy = rng.standard_normal((4, 3, 2, 2)).astype(np.float32)
    assert np.array_equal(xp.to_numpy(layer.backward(xp.asarray(dy))), dy.reshape(4, 12))


def test_a_decoder_has_right_gradients_and_learns():
    digits = data.digits().scaled()
    model = Sequential(
        Flatten(),
        Dense(12, activation="tanh"),
        Dense(4 * 2 * 2, activation="tanh"),
        Reshape((4, 2, 2)),
        Upsample2D(2, mode="bilinear"),
        Conv2D(4, 3, padding="same", activation="tanh"),
        ConvTranspose2D(4, 2, stride=2, activation="tanh"),
        Conv2D(1, 3, padding="same"),
    )
    x = digits.x_train[:64]
    model.build((1, 8, 8), rng=0)
    assert check_gradients(model, x[:2], x[:2], loss=MeanSquaredError()).passed
    optimizer = Adam(lr=0.01)
    losses = [float(train_step(model, MeanSquaredError(), optimizer, x, x)) for _ in range(150)]
    assert losses[-1] < 0.4 * x.var()  # that of the best constant picture of one grey


def test_summary_counts_nothing_for_a_shape_and_no_copy_for_upsampling():
    rows = {row.kind: row for row in Sequential(Reshape((2, 2, 2)), Upsample2D(), Flatten()).summary((8,)).rows}
    assert rows["Upsample2D"].output_shape == (2, 4, 4)
    assert [rows[kind].kept_bytes for kind in ("Reshape", "Upsample2D")] == [0, 0]


def test_repr():
    assert repr(Upsample2D((2, 1))) == "Upsample2D(scale=(2, 1), mode='nearest')"
    assert repr(Upsample2D(data_format="NHWC")) == "Upsample2D(scale=(2, 2), mode='nearest', data_format='NHWC')"
    assert repr(Reshape([3, 4])) == "Reshape(shape=(3, 4))"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Upsample2D(0), "Upsample2D: scale must be at least 1, got 0"),
        (lambda: Upsample2D(1.5), "Upsample2D: scale must be an int or a pair of ints"),
        (lambda: Upsample2D(mode="cubic"), "Upsample2D: mode must be one of nearest, bilinear, got 'cubic'"),
        (lambda: Reshape((3, -1)), "Reshape: each size of shape must be a positive int, got -1"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_bad_inputs():
    with pytest.raises(ShapeError, match=r"Upsample2D: the input must be images \(C, H, W\) .* got shape \(8,\)"):
        Upsample2D().build((8,))
    with pytest.raises(ShapeError, match=r"Reshape: a sample of shape \(8,\) has 8 elements, shape \(3, 3\) takes 9"):
        Reshape((3, 3)).build((8,))
