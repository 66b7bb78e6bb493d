"""Convolution: against plain loops, torch and worked numbers; padding forms, groups, blocks, refusals."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import NO_PADS, naive_conv2d, output_pixels, torch_gradients
from xpnet import config
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.testing import assert_close


def torch_conv2d(stride, padding, dilation, groups):
    def conv(x, W, b=None):
        import torch.nn.functional as T

        return T.conv2d(T.pad(x, (*padding[1], *padding[0])), W, b, stride, 0, dilation, groups)

    return conv


@functools.cache
def random_case(seed):
    """Arguments drawn at random, and what loops and (where it is installed) torch make of them."""
    rng = np.random.default_rng(seed)
    while True:
        groups = int(rng.choice([1, 1, 2, 3]))
        N, C, F = int(rng.integers(1, 4)), groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
        size, kernel = rng.integers(1, 9, 2).tolist(), rng.integers(1, 5, 2).tolist()
        stride, dilation = tuple(rng.integers(1, 5, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
        padding = tuple(tuple(p) for p in rng.integers(0, 4, (2, 2)).tolist())
        if all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)):
            break
    x, W = rng.standard_normal((N, C, *size)), rng.standard_normal((F, C // groups, *kernel))
    b = rng.standard_normal(F) if rng.random() < 0.7 else None
    settings_ = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = naive_conv2d(x, W, b, **settings_)
    return x, W, b, settings_, y, rng.standard_normal(y.shape)


@pytest.mark.parametrize("seed", range(14))
def test_forward_against_loops(xp, seed):
    x, W, b, arguments, expected, _ = random_case(seed)
    for dtype in ("float64", "float32"):
        y, _ = conv2d_forward(*(None if a is None else xp.asarray(a, dtype) for a in (x, W, b)), **arguments)
        assert_close(y, expected, terms=W[0].size)


@pytest.mark.parametrize("seed", range(14))
def test_gradients_against_torch(xp, seed):
    x, W, b, arguments, _, dy = random_case(seed)
    y, expected = torch_gradients(torch_conv2d(**arguments), (x, W, b), dy)
    got, ctx = conv2d_forward(*(None if a is None else xp.asarray(a) for a in (x, W, b)), **arguments)
    assert_close(got, y, terms=W[0].size)
    gradients = conv2d_backward(xp.asarray(dy), ctx)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert (gradient is None) == (wanted is None)
        if wanted is not None:
            assert_close(gradient, wanted, terms=dy.size)
    none, dW, db = conv2d_backward(xp.asarray(dy), ctx, need_dx=False)
    assert none is None
    np.testing.assert_array_equal(xp.to_numpy(dW), xp.to_numpy(gradients[1]), strict=True)
    assert (db is None) == (b is None)


@settings(max_examples=50)
@given(data=st.data())
def test_any_geometry_against_torch(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, seed = draw(1, 3), draw(0, 99)
    kernel, size = (draw(1, 5), draw(1, 5)), (draw(1, 9), draw(1, 9))
    stride, dilation = (draw(1, 6), draw(1, 6)), (draw(1, 4), draw(1, 4))
    padding = ((draw(0, 6), draw(0, 6)), (draw(0, 6), draw(0, 6)))
    assume(all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((draw(1, 3), groups * draw(1, 2), *size))
    W = rng.standard_normal((groups * draw(1, 2), x.shape[1] // groups, *kernel))
    y, ctx = conv2d_forward(x, W, None, stride, padding, dilation, groups)
    dy = rng.standard_normal(y.shape)
    expected, (dx, dW) = torch_gradients(torch_conv2d(stride, padding, dilation, groups), (x, W), dy)
    with config.using(conv_workspace=data.draw(st.sampled_from([500, 5000, "4MB"]))):
        got = conv2d_backward(dy, ctx)
    assert_close(y, expected, terms=W[0].size)
    assert_close(got[0], dx, terms=W.size)
    assert_close(got[1], dW, terms=dy.size)


# --- worked numbers ------------------------------------------------------------------------------


def test_cross_correlation_does_not_flip_the_kernel(xp):
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    y, _ = conv2d_forward(xp.asarray(x), xp.asarray([[[[0.0, 1.0], [2.0, 3.0]]]]))
    assert xp.to_numpy(y).tolist() == [[[[19, 25], [37, 43]]]]


def test_padding_by_hand(xp):
    x = np.broadcast_to([255.0, 1.0, 2.0], (1, 1, 3, 3))
    kernel = np.broadcast_to([0.0, 1.0, 0.0], (1, 1, 3, 3))
    y, _ = conv2d_forward(xp.asarray(x), xp.asarray(kernel), padding=1)
    assert xp.to_numpy(y).tolist() == [[[[510, 2, 4], [765, 3, 6], [510, 2, 4]]]]


def test_ones_and_stride_three(xp):
    y, _ = conv2d_forward(xp.asarray(np.ones((1, 1, 8, 8))), xp.asarray(np.ones((1, 1, 5, 5))), stride=3)
    assert xp.to_numpy(y).tolist() == [[[[25, 25], [25, 25]]]]


@pytest.mark.parametrize(
    "size, padding, stride, kernel, expected",
    [
        ((4, 4), 1, 1, 3, (4, 4)),
        ((7, 7), 0, 2, 3, (3, 3)),
        ((28, 31), 2, 3, 5, (10, 11)),
        ((7, 6), "valid", 1, (3, 2), (5, 5)),
        ((7, 6), "same", 1, (3, 2), (7, 6)),
        ((7, 6), "full", 1, (3, 2), (9, 7)),
        ((6, 6), 0, 4, 3, (1, 1)),
    ],
)
def test_output_sizes(size, padding, stride, kernel, expected):
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    y, _ = conv2d_forward(np.ones((2, 1, *size)), np.ones((3, 1, *kernel)), None, stride, padding)
    assert y.shape == (2, 3, *expected)


def test_dilation_widens_the_kernel():
    kernel = np.zeros((1, 1, 5, 7))
    kernel[..., ::2, ::3] = W = np.arange(9.0).reshape(1, 1, 3, 3)
    x = np.random.default_rng(0).standard_normal((2, 1, 9, 9))
    np.testing.assert_allclose(conv2d_forward(x, W, dilation=(2, 3))[0], conv2d_forward(x, kernel)[0], atol=1e-12)


def test_shifted_image_shifts_the_feature_map(rng):
    x, W = rng.standard_normal((1, 2, 8, 8)), rng.standard_normal((3, 2, 3, 3))
    shifted = np.roll(x, (2, 1), axis=(2, 3))
    y, moved = conv2d_forward(x, W)[0], conv2d_forward(shifted, W)[0]
    np.testing.assert_allclose(moved[..., 2:, 1:], y[..., :-2, :-1], atol=1e-12)


def test_depthwise_is_one_convolution_per_channel(xp, rng):
    x, W = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((6, 1, 3, 3))
    y, _ = conv2d_forward(xp.asarray(x), xp.asarray(W), groups=3)
    for f in range(6):
        alone = naive_conv2d(x[:, f // 2 : f // 2 + 1], W[f : f + 1])
        assert_close(y[:, f : f + 1, ...], alone, terms=9)


# --- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "padding, explicit",
    [
        (2, ((2, 2), (2, 2))),
        ((0, 2), ((0, 0), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 0), (2, 3)), ((1, 0), (2, 3))),
        ([[0, 3], [1, 0]], ((0, 3), (1, 0))),
        (np.int64(1), ((1, 1), (1, 1))),
        ("valid", NO_PADS),
        ("full", ((2, 2), (3, 3))),
        ("same", ((1, 1), (1, 2))),
    ],
)
def test_forms_of_padding(xp, padding, explicit, rng):
    x, W = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((2, 2, 3, 4))
    y, _ = conv2d_forward(xp.asarray(x), xp.asarray(W), padding=padding)
    assert_close(y, naive_conv2d(x, W, padding=explicit), terms=24)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [5, 6, 7])
def test_same_padding(size, kernel, stride, dilation, rng):
    """ceil(size / stride) outputs, the least padding that gives them, and its odd part at the end."""
    x, W = rng.standard_normal((1, 1, size, 6)), rng.standard_normal((1, 1, kernel, 1))
    y, _ = conv2d_forward(x, W, None, (stride, 1), "same", (dilation, 1))
    wanted, total = -(-size // stride), 0
    while output_pixels(size, kernel, stride, (0, total), dilation) < wanted:
        total += 1
    assert y.shape == (1, 1, wanted, 6)
    pads = ((total // 2, total - total // 2), (0, 0))
    expected = naive_conv2d(x, W, None, (stride, 1), pads, (dilation, 1))
    np.testing.assert_allclose(y, expected[:, :, :wanted], atol=1e-12)


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride, padding", [(1, 1), (2, (1, 2)), (3, 0), (1, 3)])
@pytest.mark.parametrize("workspace", [1, 800, 3000])
def test_block_budgets_give_equal_results(xp, workspace, stride, padding, groups, rng):
    """One pixel at a time, parts of rows, some rows: all as in one block."""
    x, W, b = rng.standard_normal((2, 2, 5, 4)), rng.standard_normal((4, 2 // groups, 3, 2)), rng.standard_normal(4)
    arrays = [xp.asarray(a) for a in (x, W, b)]
    results = []
    for budget in (workspace, "1GB"):
        with config.using(conv_workspace=budget):
            y, ctx = conv2d_forward(*arrays, stride, padding, groups=groups)
            dy = xp.asarray(np.cos(np.arange(y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3])).reshape(y.shape))
            results.append((y, *conv2d_backward(dy, ctx)))
    for blocked, whole in zip(*results, strict=True):
        assert_close(blocked, xp.to_numpy(whole), terms=100)


def test_block_of_columns_stays_within_the_budget(monkeypatch, rng):
    from xpnet.kernels.agnostic import conv

    sizes = []
    gather = conv.gather_columns
    monkeypatch.setattr(conv, "gather_columns", lambda col, *rest: (sizes.append(col.nbytes), gather(col, *rest)))
    x, W = rng.standard_normal((2, 3, 20, 20)), rng.standard_normal((4, 3, 3, 3))
    with config.using(conv_workspace="16KB", kernels="agnostic"):
        y, ctx = conv2d_forward(x, W, padding=1)
        conv2d_backward(np.ones_like(y), ctx)
    assert len(sizes) > 20
    assert max(sizes) <= 16 << 10


def test_weight_gradient_of_half_floats_is_summed_over_blocks_in_float32():
    """61 blocks of 61 ones each: in float16 each sum above 2048 would be rounded to an even number."""
    x, W = np.ones((1, 1, 61, 61), np.float16), np.ones((1, 1, 1, 1), np.float16)
    with config.using(conv_workspace=61 * 2):
        y, ctx = conv2d_forward(x, W)
        _, dW, _ = conv2d_backward(np.ones_like(y), ctx)
    assert dW.dtype == np.float16
    assert dW.item() == np.float16(61 * 61)


def test_input_gradient_of_half_floats_is_summed_in_float32(xp):
    """With a stride, 16 taps of 255 meet at a pixel: rounded one by one, their sum in float16 is another."""
    if not hasattr(xp.xp, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    x, W = np.zeros((1, 1, 16, 16)), np.full((1, 1, 8, 8), 255.0)
    with config.using(kernels="agnostic"):
        y, ctx = conv2d_forward(xp.asarray(x, "float16"), xp.asarray(W, "float16"), stride=2)
        dx, _, _ = conv2d_backward(y + 1.0, ctx)
    assert xp.to_numpy(dx).dtype == "float16"
    assert float(dx[0, 0, 7, 7]) == 16 * 255


# --- refusals ------------------------------------------------------------------------------------

X, W_OK = np.ones((2, 4, 5, 6)), np.ones((6, 4, 3, 3))


@pytest.mark.parametrize(
    "x, W, b, message",
    [
        (np.ones((4, 5, 6)), W_OK, None, "x must have 4 axes (N, C, H, W), got shape (4, 5, 6); give a single image"),
        (np.ones((4, 5)), W_OK, None, "x must have 4 axes (N, C, H, W), got shape (4, 5)"),
        (np.ones((0, 4, 5, 6)), W_OK, None, "the batch is empty: x has shape (0, 4, 5, 6)"),
        (np.ones((2, 0, 5, 6)), W_OK, None, "an axis is empty: x has shape (2, 0, 5, 6)"),
        (X, np.ones((6, 4, 3)), None, "W must have 4 axes (F, C/groups, KH, KW), none empty; x.shape=(2, 4, 5, 6), W"),
        (X, np.ones((0, 4, 3, 3)), None, "W must have 4 axes (F, C/groups, KH, KW), none empty"),
        (
            X,
            np.ones((6, 1, 3, 3)),
            None,
            "x has 4 channels but W expects 1 (x.shape=(2, 4, 5, 6), W.shape=(6, 1, 3, 3))",
        ),
        (X, W_OK, np.ones(4), "b must have shape (F,) = (6,), got (4,)"),
        (X, W_OK, np.ones((6, 1)), "b must have shape (F,) = (6,), got (6, 1)"),
    ],
)
def test_wrong_shapes(xp, x, W, b, message):
    arrays = [None if a is None else xp.asarray(a) for a in (x, W, b)]
    with pytest.raises(ShapeError, match="^conv2d: " + re.escape(message)):
        conv2d_forward(*arrays)


FORMS = "padding must be an int, (ph, pw), ((top, bottom), (left, right)), 'valid', 'same' or 'full', got "


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"stride": 0}, ArgumentError, "stride must be at least 1, got 0"),
        ({"stride": (1, -1)}, ArgumentError, "stride must be at least 1, got (1, -1)"),
        ({"stride": 1.5}, ArgumentError, "stride must be an int or a pair of ints, got 1.5"),
        ({"stride": "2"}, ArgumentError, "stride must be an int or a pair of ints, got '2'"),
        ({"stride": True}, ArgumentError, "stride must be an int or a pair of ints, got True"),
        ({"stride": (1, 2, 3)}, ArgumentError, "stride must be an int or a pair of ints, got (1, 2, 3)"),
        ({"stride": None}, ArgumentError, "stride must be an int or a pair of ints, got None"),
        ({"dilation": 0}, ArgumentError, "dilation must be at least 1, got 0"),
        ({"dilation": (1.0, 1)}, ArgumentError, "dilation must be an int or a pair of ints, got (1.0, 1)"),
        ({"padding": -1}, ArgumentError, "padding must be at least 0, got -1"),
        ({"padding": ((0, 0), (-2, 0))}, ArgumentError, "padding must be at least 0, got (-2, 0)"),
        ({"padding": 0.5}, ArgumentError, FORMS + "0.5"),
        ({"padding": "Same"}, ArgumentError, FORMS + "'Same'"),
        ({"padding": (1, 2, 3, 4)}, ArgumentError, FORMS + "(1, 2, 3, 4)"),
        ({"padding": (1, (2, 3))}, ArgumentError, FORMS + "(1, (2, 3))"),
        ({"padding": None}, ArgumentError, FORMS + "None"),
        ({"groups": 0}, ArgumentError, "groups must be a positive int, got 0"),
        ({"groups": 2.0}, ArgumentError, "groups must be a positive int, got 2.0"),
        ({"groups": 3}, ShapeError, "groups=3 must divide the 4 channels of x and the 6 filters of W; x.shape="),
        ({"groups": 4}, ShapeError, "groups=4 must divide the 4 channels of x and the 6 filters of W; x.shape="),
        ({"groups": 2}, ShapeError, "x has 4 channels but W expects 4 * groups = 8 (x.shape="),
        (
            {"dilation": 3},
            ShapeError,
            "the output would have -1 rows: floor((5 + 0 + 0 - 3*(3-1) - 1) / 1) + 1 = -1; use a larger image",
        ),
        (
            {"dilation": (1, 4), "padding": ((0, 0), (1, 0)), "stride": 2},
            ShapeError,
            "the output would have 0 columns: floor((6 + 1 + 0 - 4*(3-1) - 1) / 2) + 1 = 0; use a larger image",
        ),
    ],
)
def test_wrong_settings(arguments, error, message):
    with pytest.raises(error, match="^conv2d: " + re.escape(message)):
        conv2d_forward(X, W_OK, **arguments)


@pytest.mark.parametrize("odd", [{"stride": (True, 1)}, {"dilation": (1.0, 1)}, {"padding": ((1.0, 1), (1, 1))}])
def test_what_is_refused_stays_so_after_a_like_call(odd):
    """Windows are looked up, and True and 1.0 equal 1."""
    x, W = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    conv2d_forward(x, W, stride=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 1)))
    conv2d_forward(x, W, **{name: ((1, 1), (1, 1)) if name == "padding" else (1, 1) for name in odd})
    with pytest.raises(ArgumentError, match="must be an int or a pair of ints"):
        conv2d_forward(x, W, **odd)
