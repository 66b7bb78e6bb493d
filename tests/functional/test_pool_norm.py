"""Pooling by the p-norm, and ceil_mode of all modes: against plain loops, torch and worked numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import DIFFERENCE_RTOL, naive_pool2d, numerical_gradient, output_pixels, torch_gradients
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import pool2d_backward, pool2d_forward
from xpnet.testing import assert_close

NORMS = [
    ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2)),
    ((2, 3), (1, 4), ((2, 2), (0, 3)), (2, 1)),  # some windows see padding alone
]


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 7.25])
@pytest.mark.parametrize("geometry", NORMS)
def test_norm_against_loops(xp, geometry, p, rng):
    x = rng.standard_normal((2, 2, 5, 6))
    expected = naive_pool2d(x, *geometry, mode="lp", p=p)
    y, ctx = pool2d_forward(xp.asarray(x), *geometry, mode="lp", p=p)
    assert_close(y, expected, terms=6)
    assert_close(pool2d_forward(xp.asarray(x, "float32"), *geometry, mode="lp", p=p)[0], expected, terms=6)
    dy = rng.standard_normal(expected.shape)
    dx = numerical_gradient(lambda a: np.sum(pool2d_forward(a, *geometry, mode="lp", p=p)[0] * dy), x)
    assert_close(pool2d_backward(xp.asarray(dy), ctx), dx, rtol=DIFFERENCE_RTOL, terms=dy.size)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("kernel, stride, ceil_mode", [((2, 3), (2, 1), False), ((2, 2), (1, 3), True)])
def test_norm_against_torch(p, kernel, stride, ceil_mode, rng):
    """Torch takes x^p and not |x|^p, and in ceil mode scales a window by what it lacks: sizes that divide, x > 0."""

    def pool(x):
        import torch.nn.functional as T

        return T.lp_pool2d(x, float(p), kernel, stride, ceil_mode)

    x, arguments = rng.random((2, 3, 6, 5)) + 0.1, {"mode": "lp", "p": p, "ceil_mode": ceil_mode}
    y, ctx = pool2d_forward(x, kernel, stride, **arguments)
    dy = rng.standard_normal(y.shape)
    expected, (dx,) = torch_gradients(pool, (x,), dy)
    assert_close(y, expected, terms=6)
    assert_close(pool2d_backward(dy, ctx), dx, terms=6)


def test_norm_by_hand(xp):
    x = xp.asarray([[[[3.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]])
    y, ctx = pool2d_forward(x, 2, mode="lp")
    assert xp.to_numpy(y).tolist() == [[[[5, 0]]]]
    dx = xp.to_numpy(pool2d_backward(xp.asarray([[[[10.0, 7.0]]]]), ctx))
    np.testing.assert_allclose(dx, [[[[6, -8, 0, 0], [0, 0, 0, 0]]]], rtol=1e-15)
    y, ctx = pool2d_forward(x, 2, mode="lp", p=1)
    assert xp.to_numpy(y).tolist() == [[[[7, 0]]]]
    assert xp.to_numpy(pool2d_backward(y, ctx)).tolist() == [[[[7, -7, 0, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("p", [1, 2, 3, 50])
@pytest.mark.parametrize("size", [1e37, 1e-37, 1e-44])
def test_norm_neither_overflows_nor_vanishes(xp, p, size):
    """Powers of such float32 numbers do; the last ones are subnormal."""
    if xp.name == "cupy" and size < 1e-40:
        pytest.skip("CuPy compiles with -ftz=true: subnormal float32 numbers are zero")
    x = np.full((1, 1, 2, 4), size, np.float32)
    y, ctx = pool2d_forward(xp.asarray(x, "float32"), 2, mode="lp", p=p)
    np.testing.assert_allclose(
        xp.to_numpy(y), float(x[0, 0, 0, 0]) * 4.0 ** (1 / p), rtol=0.1 if size < 1e-40 else 1e-6
    )
    dx = pool2d_backward(xp.asarray(np.ones((1, 1, 1, 2)), "float32"), ctx)
    np.testing.assert_allclose(xp.to_numpy(dx), 4.0 ** (1 / p - 1), rtol=0.2 * p if size < 1e-40 else 1e-4)


def test_norm_of_what_is_not_finite(xp):
    x = xp.asarray([[[[np.inf, 1.0, np.nan, 1.0, -np.inf, 2.0]]]])
    y, _ = pool2d_forward(x, (1, 2), mode="lp", p=3)
    np.testing.assert_array_equal(xp.to_numpy(y), [[[[np.inf, np.nan, np.inf]]]])


def test_exponent_of_another_kind_of_number():
    x = np.ones((1, 1, 2, 2), np.float32)
    for p in (np.float32(2), np.int64(2)):
        y, _ = pool2d_forward(x, 2, mode="lp", p=p)
        assert (y.dtype, y.tolist()) == (np.float32, [[[[2]]]])


@pytest.mark.parametrize("mode", ["max", "average", "lp"])
def test_an_average_keeps_no_input(mode):
    x = np.ones((1, 1, 4, 4))
    y, ctx = pool2d_forward(x, 2, mode=mode)
    assert ctx.y is y
    assert ctx.x is (None if mode == "average" else x)


# --- half types ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, p", [("max", 2), ("average", 2), ("lp", 1), ("lp", 2)])
def test_sums_of_half_floats_run_in_float32(xp, mode, p, rng):
    """81 terms forward and up to 25 back; padding that torch leaves to the common kernels."""
    if not hasattr(xp.xp, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    geometry = (9, 9), (1, 1), ((1, 0), (0, 1)), (1, 1)
    x = rng.uniform(100, 200, (1, 2, 12, 12)).astype("float16").astype("float64")
    dy = rng.uniform(10, 20, (1, 2, 5, 5)).astype("float16").astype("float64")
    expected = naive_pool2d(x, *geometry, mode=mode, p=p)
    y, ctx = pool2d_forward(xp.asarray(x, "float16"), *geometry, mode=mode, p=p)
    np.testing.assert_allclose(xp.to_numpy(y), expected, rtol=6e-4)  # one rounding is 5e-4
    dx = pool2d_backward(xp.asarray(dy, "float16"), ctx)
    assert y.dtype == dx.dtype == xp.xp.float16
    wide = pool2d_backward(dy, pool2d_forward(x, *geometry, mode=mode, p=p)[1])
    np.testing.assert_allclose(xp.to_numpy(dx), wide, rtol=1.1e-3)  # with that of y


def test_an_average_of_half_floats_does_not_overflow(xp):
    if not hasattr(xp.xp, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    x = xp.asarray(np.full((1, 1, 2, 2), 40000.0), "float16")
    for padding, expected in ((0, [[40000]]), (((0, 1), (0, 1)), [[40000]])):
        assert xp.to_numpy(pool2d_forward(x, 2, 2, padding, mode="average")[0]).tolist() == [[expected]]


# --- ceil mode -----------------------------------------------------------------------------------


@settings(max_examples=120)
@given(data=st.data())
def test_ceil_mode_against_torch(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    mode, count = data.draw(st.sampled_from([("max", True), ("average", True), ("average", False)]))
    size, kernel, stride = (draw(1, 10), draw(1, 10)), (draw(1, 5), draw(1, 5)), (draw(1, 5), draw(1, 5))
    padding = (draw(0, kernel[0] // 2), draw(0, kernel[1] // 2))
    dilation = (draw(1, 3), draw(1, 3)) if mode == "max" else (1, 1)

    def pool(x):
        import torch.nn.functional as T

        if mode == "max":
            return T.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=True)
        return T.avg_pool2d(x, kernel, stride, padding, ceil_mode=True, count_include_pad=count)

    rng = np.random.default_rng(draw(0, 99))
    shape = (draw(1, 2), draw(1, 2), *size)
    x = rng.permutation(int(np.prod(shape))).reshape(shape) / 7.0 - 2.0
    arguments = {"mode": mode, "count_include_pad": count, "ceil_mode": True}
    try:
        y, ctx = pool2d_forward(x, kernel, stride, padding, dilation, **arguments)
    except ShapeError as error:
        assume("lies wholly in the padding" not in str(error))  # torch gives minus infinity there
        with pytest.raises(RuntimeError, match="too small"):
            torch_gradients(pool, (x,), np.ones(1))
        return
    dy = rng.standard_normal(y.shape)
    expected, (dx,) = torch_gradients(pool, (x,), dy)
    for dtype in ("float64", "float32"):
        y, ctx = pool2d_forward(x.astype(dtype), kernel, stride, padding, dilation, **arguments)
        assert_close(y, expected, terms=25)
        assert_close(pool2d_backward(dy.astype(dtype), ctx), dx, terms=25)


def test_ceil_mode_by_hand(xp):
    """Five pixels, windows of two: the last window sees one pixel, and an average divides by one."""
    x = xp.asarray([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]])
    for mode, expected in (("max", [2, 4, 5]), ("average", [1.5, 3.5, 5]), ("lp", [3, 7, 5])):
        y, ctx = pool2d_forward(x, (1, 2), mode=mode, ceil_mode=True, p=1)
        assert xp.to_numpy(y).tolist() == [[[expected]]]
        assert pool2d_forward(x, (1, 2), mode=mode)[0].shape == (1, 1, 1, 2)
    y, _ = pool2d_forward(x, (1, 4), (1, 3), (0, 1), mode="average", ceil_mode=True)
    assert xp.to_numpy(y).tolist() == [[[[1.5, 3]]]]  # (0 + 1 + 2 + 3) / 4; (3 + 4 + 5 + 0) / 4
    y, _ = pool2d_forward(x, (1, 4), (1, 4), (0, 1), mode="average", ceil_mode=True)
    assert xp.to_numpy(y).tolist() == [[[[1.5, 3]]]]  # (4 + 5 + 0) / 3: what lies beyond the padding never counts


@pytest.mark.parametrize(
    "size, kernel, stride, padding, expected",
    [
        (5, 2, 2, 0, 3),
        (6, 2, 2, 0, 3),
        (7, 3, 2, 0, 3),
        (8, 3, 2, 0, 4),
        (4, 1, 3, 0, 2),
        (5, 1, 4, 1, 2),
        (2, 3, 2, 0, 1),
    ],
)
def test_ceil_mode_sizes(size, kernel, stride, padding, expected):
    """A window that would start in the padding after the image is left out."""
    pads = ((padding, padding), (padding, padding))
    y, _ = pool2d_forward(np.ones((1, 1, size, size)), kernel, stride, pads, mode="average", ceil_mode=True)
    assert y.shape == (1, 1, expected, expected)
    assert output_pixels(size, kernel, stride, pads[0], 1) in (expected - 1, expected)


@pytest.mark.parametrize("mode", ["max", "average", "lp"])
def test_overlapping_gradients_are_the_same_every_time(mode, rng):
    x, dy = rng.standard_normal((4, 3, 9, 9)).astype("float32"), rng.standard_normal((4, 3, 7, 7)).astype("float32")
    first, *others = (pool2d_backward(dy, pool2d_forward(x.copy(), 3, 1, mode=mode)[1]) for _ in range(3))
    for other in others:
        np.testing.assert_array_equal(first, other, strict=True)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"mode": "lp", "p": 0.5}, ArgumentError, "p must be a finite number of at least 1, got 0.5"),
        ({"mode": "lp", "p": float("inf")}, ArgumentError, "p must be a finite number of at least 1, got inf"),
        ({"mode": "lp", "p": float("nan")}, ArgumentError, "p must be a finite number of at least 1, got nan"),
        ({"mode": "lp", "p": "2"}, ArgumentError, "p must be a finite number of at least 1, got '2'"),
        ({"mode": "lp", "p": True}, ArgumentError, "p must be a finite number of at least 1, got True"),
        (
            {"kernel_size": 9, "stride": 2, "ceil_mode": True},
            ShapeError,
            "the output would have -1 rows: ceil((5 + 0 + 0 - 1*(9-1) - 1) / 2) + 1 = -1; use a larger image",
        ),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match="^pool2d: " + re.escape(message)):
        pool2d_forward(np.ones((2, 3, 5, 6)), **{"kernel_size": 2} | arguments)
