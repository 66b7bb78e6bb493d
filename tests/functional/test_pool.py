"""Pooling: against plain loops, torch and worked numbers; ties, padding, refusals."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import DIFFERENCE_RTOL, naive_pool2d, numerical_gradient, output_pixels, torch_gradients
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional import pool2d_backward, pool2d_forward
from xpnet.kernels import table
from xpnet.kernels.compiled import loader
from xpnet.kernels.geometry import make_window
from xpnet.testing import assert_close


def torch_pool2d(kernel, stride, padding, dilation, mode):
    """Padded by hand, as torch pads both sides alike: an average counts the zeros, a maximum sees minus infinity."""

    def pool(x):
        import torch.nn.functional as T

        pads = (*padding[1], *padding[0])
        if mode == "average":
            return T.avg_pool2d(T.pad(x, pads), kernel, stride)
        return T.max_pool2d(T.pad(x, pads, value=-float("inf")), kernel, stride, 0, dilation)

    return pool


def distinct(rng, shape):
    """Values far enough apart that a maximum is not near a tie."""
    return (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2) / 7.0


@functools.cache
def random_case(seed, mode, count_include_pad):
    """Arguments drawn at random, and what loops (and their central differences) make of them; None if nothing."""
    rng = np.random.default_rng(seed)
    while True:
        size, kernel = tuple(rng.integers(1, 8, 2).tolist()), tuple(rng.integers(1, 5, 2).tolist())
        stride, dilation = tuple(rng.integers(1, 5, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
        padding = tuple(tuple(int(rng.integers(0, k)) for _ in (0, 1)) for k in kernel)
        if all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)):
            break
    x, geometry = distinct(rng, (2, int(rng.integers(1, 3)), *size)), (kernel, stride, padding, dilation)
    pool = lambda a: naive_pool2d(a, *geometry, mode=mode, count_include_pad=count_include_pad)
    try:
        y = pool(x)
    except (ValueError, ZeroDivisionError):  # a window of padding only has no maximum, and no average without it
        return x, geometry, None, None, None
    dy = rng.standard_normal(y.shape)
    dx = np.zeros(x.shape)
    for n, c in np.ndindex(*x.shape[:2]):  # channels do not see each other
        one, weight = (slice(n, n + 1), slice(c, c + 1)), dy[n : n + 1, c : c + 1]
        dx[one] = numerical_gradient(lambda a, weight=weight: np.sum(pool(a) * weight), x[one])
    return x, geometry, y, dy, dx


@pytest.mark.parametrize("mode, count_include_pad", [("max", True), ("average", True), ("average", False)])
@pytest.mark.parametrize("seed", range(10))
def test_against_loops(xp, seed, mode, count_include_pad):
    x, geometry, expected, dy, dx = random_case(seed, mode, count_include_pad)
    arguments = {"mode": mode, "count_include_pad": count_include_pad}
    if expected is None:
        with pytest.raises(ShapeError, match=r"^pool2d: the window of output (row|column) \d+ lies wholly in the pad"):
            pool2d_forward(xp.asarray(x), *geometry, **arguments)
        return
    assert_close(pool2d_forward(xp.asarray(x, "float32"), *geometry, **arguments)[0], expected, terms=16)
    y, ctx = pool2d_forward(xp.asarray(x), *geometry, **arguments)
    assert_close(y, expected, terms=16)
    assert_close(pool2d_backward(xp.asarray(dy), ctx), dx, rtol=DIFFERENCE_RTOL, terms=dy.size)


@settings(max_examples=60)
@given(data=st.data())
def test_any_geometry_against_torch(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    mode = data.draw(st.sampled_from(["max", "average"]))
    size, kernel = (draw(1, 10), draw(1, 10)), (draw(1, 4), draw(1, 4))
    stride, dilation = (draw(1, 5), draw(1, 5)), (draw(1, 3), draw(1, 3)) if mode == "max" else (1, 1)
    padding = tuple((draw(0, k - 1), draw(0, k - 1)) for k in kernel)
    geometry = kernel, stride, padding, dilation
    assume(all(output_pixels(size[a], kernel[a], stride[a], padding[a], dilation[a]) > 0 for a in (0, 1)))
    rng = np.random.default_rng(draw(0, 99))
    x = distinct(rng, (draw(1, 3), draw(1, 3), *size))
    try:
        y, ctx = pool2d_forward(x, *geometry, mode=mode)
    except ShapeError:  # a dilated window that sees padding only
        assert mode == "max"
        assert np.isinf(torch_gradients(torch_pool2d(*geometry, mode), (x,), np.ones(1))[0]).any()
        return
    dy = rng.standard_normal(y.shape)
    expected, (dx,) = torch_gradients(torch_pool2d(*geometry, mode), (x,), dy)
    assert_close(y, expected, terms=16)
    assert_close(pool2d_backward(dy, ctx), dx, terms=16)


# --- worked numbers ------------------------------------------------------------------------------


def test_overlapping_windows_by_hand(xp):
    y, _ = pool2d_forward(xp.asarray(np.arange(9.0).reshape(1, 1, 3, 3)), 2, stride=1)
    assert xp.to_numpy(y).tolist() == [[[[4, 5], [7, 8]]]]


@pytest.mark.parametrize("mode, expected", [("max", [[6, 8], [14, 16]]), ("average", [[3.5, 5.5], [11.5, 13.5]])])
def test_sixteen_numbers(xp, mode, expected):
    x = xp.asarray(np.arange(1.0, 17.0).reshape(1, 1, 4, 4))
    for stride in (None, 2, (2, 2)):
        assert xp.to_numpy(pool2d_forward(x, 2, stride, mode=mode)[0]).tolist() == [[expected]]


def test_backward_by_hand(xp):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, [0, 0, 3, 3], [0, 3, 0, 3]] = 1.0
    dy = xp.asarray([[[[2.0, 4.0], [6.0, 8.0]]]])
    dx = pool2d_backward(dy, pool2d_forward(xp.asarray(x), 2)[1])
    assert xp.to_numpy(dx).tolist() == [[[[2, 0, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0], [6, 0, 0, 8]]]]
    dx = pool2d_backward(dy, pool2d_forward(xp.asarray(x), 2, mode="average")[1])
    quarters = [[0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1], [1.5, 1.5, 2, 2], [1.5, 1.5, 2, 2]]
    assert xp.to_numpy(dx).tolist() == [[quarters]]


@pytest.mark.parametrize(
    "size, kernel, stride, padding, expected",
    [
        (28, 2, None, 0, 14),
        (7, 3, 2, 0, 3),
        (7, 3, 2, "same", 4),
        (6, 2, 3, "valid", 2),
        (5, 2, 1, "full", 6),
        (9, 2, 4, 0, 2),
    ],
)
def test_output_sizes(size, kernel, stride, padding, expected):
    y, _ = pool2d_forward(np.ones((1, 1, size, size)), kernel, stride, padding, mode="average")
    assert y.shape == (1, 1, expected, expected)


def test_pooling_hides_a_shift_inside_its_window():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 0] = 1.0
    np.testing.assert_array_equal(pool2d_forward(x, 2)[0], pool2d_forward(np.roll(x, 1, axis=3), 2)[0])


# --- ties ----------------------------------------------------------------------------------------


def test_first_of_equal_maxima_gets_the_gradient(xp):
    x = xp.asarray([[[[3.0, 3.0, 1.0, 5.0], [3.0, 0.0, 5.0, 5.0]]]])
    _, ctx = pool2d_forward(x, 2)
    dx = pool2d_backward(xp.asarray([[[[2.0, 7.0]]]]), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[2, 0, 0, 7], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("library", ["numpy", "compiled", "agnostic"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_where_something_is_not_finite(library, dtype, rng, monkeypatch):
    """No pixel of a window with a NaN gets its gradient; an infinite one reaches its pixel and is NaN beside it."""
    if library == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(loader, "SMALL", 0)
    table.load(library)
    forward, backward = (table._TABLE[library, f"pool2d_{way}"] for way in ("forward", "backward"))
    for size, kernel in (((4, 6), (2, 2)), ((7, 5), (2, 2)), ((6, 7), (3, 2))):
        window = make_window("test", size, kernel, kernel)
        x = rng.integers(0, 3, (5, 3, *size)).astype(dtype)
        x[rng.random(x.shape) < 0.1], x[rng.random(x.shape) < 0.1] = np.nan, -np.inf
        dy = rng.standard_normal((5, 3, *window.output)).astype(dtype)
        dy[rng.random(dy.shape) < 0.2] = np.inf
        expected = np.zeros(x.shape)
        with np.errstate(invalid="ignore"):
            for n, c, r, s in np.ndindex(dy.shape):
                rows, columns = (slice(i * k, i * k + k) for i, k in zip((r, s), kernel, strict=True))
                seen, share = x[n, c, rows, columns], expected[n, c, rows, columns]
                share[...] = dy[n, c, r, s] * np.float64(0)
                if not np.isnan(seen).any():
                    share.flat[np.argmax(seen)] = dy[n, c, r, s]
            y, places = forward(x, window, "max", True)
            np.testing.assert_array_equal(backward(dy, x, y, places, window, "max", True), expected.astype(dtype))


def test_first_in_row_order_not_in_column_order(xp):
    _, ctx = pool2d_forward(xp.asarray([[[[0.0, 1.0], [1.0, 0.0]]]]), 2)
    dx = pool2d_backward(xp.asarray([[[[1.0]]]]), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[0, 1], [0, 0]]]]


def test_each_overlapping_window_has_its_own_first_maximum(xp):
    """All equal: the gradients of a row of windows go to the first pixel of each, none is lost or doubled."""
    _, ctx = pool2d_forward(xp.asarray(np.ones((1, 1, 3, 4))), 2, stride=1)
    dx = pool2d_backward(xp.asarray([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0]]]]


# --- padding -------------------------------------------------------------------------------------


def test_maximum_pads_with_minus_infinity(xp):
    """Zeros would win over negative pixels and swallow their gradient."""
    x = -np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    y, ctx = pool2d_forward(xp.asarray(x), 2, stride=2, padding=1)
    assert xp.to_numpy(y).tolist() == [[[[-1, -2], [-3, -4]]]]
    dx = pool2d_backward(xp.asarray([[[[1.0, 2.0], [3.0, 4.0]]]]), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[1, 2], [3, 4]]]]


def test_average_counts_padding_unless_told_not_to(xp):
    x = xp.asarray(np.full((1, 1, 2, 2), 8.0))
    y, _ = pool2d_forward(x, 2, stride=2, padding=1, mode="average")
    assert xp.to_numpy(y).tolist() == [[[[2, 2], [2, 2]]]]
    y, ctx = pool2d_forward(x, 2, stride=2, padding=1, mode="average", count_include_pad=False)
    assert xp.to_numpy(y).tolist() == [[[[8, 8], [8, 8]]]]
    dx = pool2d_backward(xp.asarray(np.ones((1, 1, 2, 2))), ctx)
    assert xp.to_numpy(dx).tolist() == [[[[1, 1], [1, 1]]]]


def test_minus_infinity_in_the_image(xp):
    x = xp.asarray(np.full((1, 1, 2, 2), -np.inf))
    y, ctx = pool2d_forward(x, 2, stride=1, padding=((1, 0), (0, 0)))
    assert xp.to_numpy(y).tolist() == [[[[-np.inf], [-np.inf]]]]
    assert xp.to_numpy(pool2d_backward(xp.asarray(np.ones((1, 1, 2, 1))), ctx)).sum() == 2


# --- refusals ------------------------------------------------------------------------------------

IMAGES = np.ones((2, 3, 5, 6))
FORMS = "padding must be an int, (ph, pw), ((top, bottom), (left, right)), 'valid', 'same' or 'full', got "
ALONE = "the window of output row 0 lies wholly in the padding (size 5, kernel 2, stride 2, padding (2, 2), dilation 1)"


@pytest.mark.parametrize(
    "x, kernel_size, arguments, error, message",
    [
        (np.ones((3, 5, 6)), 2, {}, ShapeError, "x must have 4 axes (N, C, H, W), got shape (3, 5, 6); give a single"),
        (np.ones((0, 3, 5, 6)), 2, {}, ShapeError, "the batch is empty: x has shape (0, 3, 5, 6)"),
        (np.ones((2, 3, 0, 6)), 2, {}, ShapeError, "an axis is empty: x has shape (2, 3, 0, 6)"),
        (IMAGES.astype(int), 2, {}, DTypeError, "x must hold floating-point numbers, got int64 (shape (2, 3, 5, 6))"),
        (IMAGES, 0, {}, ArgumentError, "kernel_size must be at least 1, got 0"),
        (IMAGES, (2, 2.5), {}, ArgumentError, "kernel_size must be an int or a pair of ints, got (2, 2.5)"),
        (IMAGES, None, {}, ArgumentError, "kernel_size must be an int or a pair of ints, got None"),
        (IMAGES, 2, {"stride": 0}, ArgumentError, "stride must be at least 1, got 0"),
        (IMAGES, 2, {"dilation": -1}, ArgumentError, "dilation must be at least 1, got -1"),
        (IMAGES, 2, {"padding": -1}, ArgumentError, "padding must be at least 0, got -1"),
        (IMAGES, 2, {"padding": "half"}, ArgumentError, FORMS + "'half'"),
        (IMAGES, 2, {"mode": "mean"}, ArgumentError, "mode must be one of max, average, lp, got 'mean'"),
        (IMAGES, 2, {"padding": 2}, ShapeError, ALONE + "; use less padding"),
        (IMAGES, 2, {"padding": 2, "mode": "average", "count_include_pad": False}, ShapeError, ALONE),
        (
            IMAGES,
            7,
            {},
            ShapeError,
            "the output would have 0 rows: floor((5 + 0 + 0 - 1*(7-1) - 1) / 7) + 1 = 0; use a",
        ),
        (
            IMAGES,
            (1, 2),
            {"padding": ((0, 0), (0, 4)), "stride": 1},
            ShapeError,
            "the window of output column 6 lies wholly in the padding (size 6, kernel 2, stride 1, padding (0, 4)",
        ),
    ],
)
def test_refusals(x, kernel_size, arguments, error, message):
    with pytest.raises(error, match="^pool2d: " + re.escape(message)):
        pool2d_forward(x, kernel_size, **arguments)


def test_average_of_padding_alone_is_zero(xp):
    """With count_include_pad a window of padding only is an average of zeros, which is allowed."""
    y, _ = pool2d_forward(xp.asarray(np.ones((1, 1, 2, 2))), 2, stride=2, padding=2, mode="average")
    assert xp.to_numpy(y).tolist() == [[[[0, 0, 0], [0, 1, 0], [0, 0, 0]]]]
