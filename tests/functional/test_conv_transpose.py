"""Transposed convolution: against torch, plain loops and the convolution it is the transpose of; refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import naive_conv_transpose2d, torch_gradients
from xpnet import config
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import (
    conv2d_backward,
    conv2d_forward,
    conv_transpose2d_backward,
    conv_transpose2d_forward,
)
from xpnet.testing import assert_close


def torch_conv_transpose2d(stride, padding, output_padding, dilation, groups):
    """Torch pads both sides alike, so what lies in the padding is cut off by hand."""

    def conv(x, W, b=None):
        import torch.nn.functional as T

        y = T.conv_transpose2d(x, W, b, stride, 0, output_padding, groups, dilation)
        (top, bottom), (left, right) = padding
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return conv


def random_case(draw, rng):
    """Arguments of a transposed convolution whose output is not empty, or None."""
    groups, kernel, size = draw(1, 3), (draw(1, 4), draw(1, 4)), (draw(1, 6), draw(1, 6))
    stride, dilation = (draw(1, 4), draw(1, 4)), (draw(1, 3), draw(1, 3))
    padding = ((draw(0, 3), draw(0, 3)), (draw(0, 3), draw(0, 3)))
    # torch wants less than the stride or the dilation too
    extra = tuple(draw(0, max(stride[a], dilation[a]) - 1) for a in (0, 1))
    made = [(size[a] - 1) * stride[a] - sum(padding[a]) + dilation[a] * (kernel[a] - 1) + extra[a] + 1 for a in (0, 1)]
    if min(made) < 1:
        return None
    x = rng.standard_normal((draw(1, 3), groups * draw(1, 2), *size))
    W = rng.standard_normal((x.shape[1], draw(1, 3), *kernel))
    b = rng.standard_normal(W.shape[1] * groups) if draw(0, 1) else None
    arguments = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation}
    return (x, W, b), arguments | {"groups": groups}


@settings(max_examples=80)
@given(data=st.data())
def test_any_geometry_against_torch(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    case = random_case(lambda low, high: data.draw(st.integers(low, high)), rng)
    assume(case is not None)
    arrays, arguments = case
    with config.using(conv_workspace=data.draw(st.sampled_from([300, 5000, "4MB"]))):
        for dtype, rtol in (("float64", 1e-10), ("float32", 1e-5)):
            given = [None if a is None else a.astype(dtype) for a in arrays]
            y, ctx = conv_transpose2d_forward(*given, **arguments)
            dy = rng.standard_normal(y.shape)
            expected, gradients = torch_gradients(torch_conv_transpose2d(**arguments), arrays, dy)
            assert y.dtype == dtype
            assert_close(y, expected, terms=arrays[1].size, rtol=rtol)
            for got, wanted in zip(conv_transpose2d_backward(dy.astype(dtype), ctx), gradients, strict=True):
                assert (got is None) == (wanted is None)
                if wanted is not None:
                    assert_close(got, wanted, terms=dy.size, rtol=rtol)


@pytest.mark.parametrize("seed", range(8))
def test_against_loops_and_torch(xp, seed):
    rng = np.random.default_rng(seed)
    case = None
    while case is None:
        case = random_case(lambda low, high: int(rng.integers(low, high + 1)), rng)
    arrays, arguments = case
    loops = naive_conv_transpose2d(*arrays, **arguments)
    for dtype in ("float64", "float32"):
        y, ctx = conv_transpose2d_forward(*(None if a is None else xp.asarray(a, dtype) for a in arrays), **arguments)
        xp.to_numpy(y)
        assert_close(y, loops, terms=arrays[1].size)
    dy = rng.standard_normal(loops.shape)
    y, ctx = conv_transpose2d_forward(*(None if a is None else xp.asarray(a) for a in arrays), **arguments)
    got = conv_transpose2d_backward(xp.asarray(dy), ctx)
    none, dW, _ = conv_transpose2d_backward(xp.asarray(dy), ctx, need_dx=False)
    assert none is None
    np.testing.assert_array_equal(xp.to_numpy(dW), xp.to_numpy(got[1]), strict=True)
    expected, gradients = torch_gradients(torch_conv_transpose2d(**arguments), arrays, dy)
    assert_close(y, expected, terms=arrays[1].size)
    for mine, wanted in zip(got, gradients, strict=True):
        if wanted is not None:
            assert_close(mine, wanted, terms=dy.size)


@pytest.mark.parametrize("padding", [0, 1, (0, 2), ((1, 0), (2, 1)), "valid", "same", "full"])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_is_the_transpose_of_convolution(xp, padding, stride, groups, rng):
    """<conv(y), x> = <y, transposed conv(x)> for all x and y, and the parts of backward change places."""
    x, W = rng.standard_normal((2, 4, 4, 5)), rng.standard_normal((4, 2, 3, 3))
    x, W = xp.asarray(x), xp.asarray(W)
    y, ctx = conv_transpose2d_forward(x, W, None, stride, padding, groups=groups)
    image = xp.asarray(rng.standard_normal(tuple(y.shape)))
    back, back_ctx = conv2d_forward(image, W, None, stride, padding, groups=groups)
    assert tuple(back.shape) == (2, 4, 4, 5)
    dx, dW, _ = conv_transpose2d_backward(image, ctx)
    assert_close(dx, xp.to_numpy(back), terms=18)
    their_dx, their_dW, _ = conv2d_backward(x, back_ctx)
    assert_close(y, xp.to_numpy(their_dx), terms=36)
    assert_close(dW, xp.to_numpy(their_dW), terms=40)


@pytest.mark.parametrize("stride", [1, 2, 3, (2, 5)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_same_padding_multiplies_the_size(stride, kernel):
    y, ctx = conv_transpose2d_forward(np.ones((1, 1, 4, 3)), np.ones((1, 1, kernel, kernel)), None, stride, "same")
    strides = (stride, stride) if isinstance(stride, int) else stride
    assert y.shape == (1, 1, 4 * strides[0], 3 * strides[1])
    assert conv_transpose2d_backward(y, ctx)[0].shape == (1, 1, 4, 3)


def test_by_hand(xp):
    """Kernels laid side by side, overlapping by a column and with a row between; then the bias everywhere."""
    x, W = xp.asarray([[[[1.0, 10.0]]]]), xp.asarray([[[[1.0, 2.0, 3.0]]]])
    assert xp.to_numpy(conv_transpose2d_forward(x, W, None, 2)[0]).tolist() == [[[[1, 2, 13, 20, 30]]]]
    assert xp.to_numpy(conv_transpose2d_forward(x, W, None, 4)[0]).tolist() == [[[[1, 2, 3, 0, 10, 20, 30]]]]
    y, _ = conv_transpose2d_forward(x, W, xp.asarray([0.5]), 2, ((0, 0), (1, 2)), (1, 0))
    assert xp.to_numpy(y).tolist() == [[[[2.5, 13.5], [0.5, 0.5]]]]


def test_output_padding_chooses_among_the_sizes_that_shrink_to_one():
    W = np.ones((1, 1, 3, 3))
    for extra in (0, 1, 2):
        y, _ = conv_transpose2d_forward(np.ones((1, 1, 4, 4)), W, None, 3, 0, extra)
        assert y.shape == (1, 1, 12 + extra, 12 + extra)
        assert conv2d_forward(y, W, None, 3)[0].shape == (1, 1, 4, 4)


@pytest.mark.parametrize("kernels", ["auto", "agnostic"])
def test_output_padding_behind_what_a_kernel_of_one_pixel_reaches(kernels, rng):
    """Where the dilation lets it be as long as the stride, the image made has pixels more than the stride tells."""
    x, W = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 1, 1))
    with config.using(kernels=kernels):
        y, ctx = conv_transpose2d_forward(x, W, None, (1, 2), 0, (1, 2), 3)
        dx, dW, _ = conv_transpose2d_backward(np.ones_like(y), ctx)
    wanted = np.zeros((2, 2, 5, 11))
    wanted[:, :, :4, :10:2] = np.einsum("nchw,cf->nfhw", x, W[:, :, 0, 0])
    np.testing.assert_allclose(y, wanted, atol=1e-12)
    np.testing.assert_allclose(dx, np.broadcast_to(W.sum((1, 2, 3)).reshape(1, 3, 1, 1), x.shape), atol=1e-12)
    np.testing.assert_allclose(dW, np.broadcast_to(x.sum((0, 2, 3)).reshape(3, 1, 1, 1), W.shape), atol=1e-12)


# --- refusals ------------------------------------------------------------------------------------

X, W_OK = np.ones((2, 4, 5, 6)), np.ones((4, 3, 3, 3))


@pytest.mark.parametrize(
    "x, W, b, arguments, error, message",
    [
        (np.ones((4, 5, 6)), W_OK, None, {}, ShapeError, "x must have 4 axes (N, C, H, W), got shape (4, 5, 6); give"),
        (X, np.ones((4, 3, 3)), None, {}, ShapeError, "W must have 4 axes (C, F/groups, KH, KW), none empty; x.shape="),
        (X, np.ones((4, 0, 3, 3)), None, {}, ShapeError, "W must have 4 axes (C, F/groups, KH, KW), none empty"),
        (X, np.ones((3, 4, 3, 3)), None, {}, ShapeError, "x has 4 channels but W expects 3 (x.shape=(2, 4, 5, 6), W."),
        (X, W_OK, np.ones(4), {}, ShapeError, "b must have shape (F,) = (3,), got (4,); x.shape="),
        (X, W_OK, np.ones(3), {"groups": 2}, ShapeError, "b must have shape (F,) = (6,), got (3,); x.shape="),
        (X, W_OK, None, {"groups": 3}, ShapeError, "groups=3 must divide the 4 channels of x; x.shape="),
        (X, W_OK, None, {"groups": 0}, ArgumentError, "groups must be a positive int, got 0"),
        (X, W_OK, None, {"stride": 0}, ArgumentError, "stride must be at least 1, got 0"),
        (X, W_OK, None, {"dilation": 1.0}, ArgumentError, "dilation must be an int or a pair of ints, got 1.0"),
        (X, W_OK, None, {"padding": "some"}, ArgumentError, "padding must be an int, (ph, pw), ((top, bottom)"),
        (X, W_OK, None, {"output_padding": -1}, ArgumentError, "output_padding must be at least 0, got -1"),
        (X, W_OK, None, {"output_padding": "1"}, ArgumentError, "output_padding must be an int or a pair of ints, got"),
        (
            X,
            W_OK,
            None,
            {"output_padding": (1, 2), "stride": 2},
            ArgumentError,
            "output_padding must be less than stride or dilation, got (1, 2) with stride (2, 2) and dilation (1, 1)",
        ),
        (
            X,
            W_OK,
            None,
            {"output_padding": 1, "padding": "same", "stride": 2},
            ArgumentError,
            "padding 'same' leaves no room for output_padding, got 1",
        ),
        (
            X,
            W_OK,
            None,
            {"padding": (4, 0)},
            ShapeError,
            "the output would have -1 rows: (5 - 1)*1 - 4 - 4 + 1*(3-1) + 0 + 1 = -1; use a larger image",
        ),
    ],
)
def test_refusals(x, W, b, arguments, error, message):
    with pytest.raises(error, match="^conv_transpose2d: " + re.escape(message)):
        conv_transpose2d_forward(x, W, b, **arguments)
