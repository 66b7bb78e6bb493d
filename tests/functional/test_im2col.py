"""im2col and col2im: the order of rows and columns, the explicit-index form, and that they are adjoint."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference import naive_conv2d, naive_im2col
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.functional import col2im, im2col
from xpnet.testing import assert_close

GEOMETRIES = [
    ((2, 3, 5, 6), (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 2, 5, 4), (2, 2), (2, 1), ((1, 0), (2, 1)), (1, 1)),
    ((1, 2, 7, 7), (3, 3), (2, 3), ((1, 1), (1, 1)), (2, 1)),
    ((3, 1, 3, 3), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 1, 9, 4), (2, 1), (4, 3), ((0, 0), (0, 0)), (1, 1)),
    ((1, 2, 4, 5), (3, 2), (1, 1), ((3, 4), (2, 2)), (1, 3)),
]
every_geometry = pytest.mark.parametrize("shape, kernel, stride, padding, dilation", GEOMETRIES)


@every_geometry
def test_agrees_with_explicit_indices(xp, shape, kernel, stride, padding, dilation, rng):
    x = rng.standard_normal(shape)
    for dtype in ("float64", "float32"):
        col = im2col(xp.asarray(x, dtype), kernel, stride, padding, dilation)
        np.testing.assert_array_equal(
            xp.to_numpy(col),
            naive_im2col(x.astype(dtype), kernel, stride, padding, dilation).astype(dtype),
            strict=True,
        )


@every_geometry
def test_col2im_is_the_transpose_of_im2col(xp, shape, kernel, stride, padding, dilation, rng):
    x = rng.standard_normal(shape)
    col = im2col(xp.asarray(x), kernel, stride, padding, dilation)
    c = rng.standard_normal(tuple(col.shape))
    back = col2im(xp.asarray(c), shape, kernel, stride, padding, dilation)
    assert tuple(back.shape) == shape
    assert np.sum(xp.to_numpy(col) * c) == pytest.approx(np.sum(x * xp.to_numpy(back)), rel=1e-12, abs=1e-12)


@every_geometry
def test_col2im_sums_what_the_matrix_of_im2col_says(xp, shape, kernel, stride, padding, dilation, rng):
    """The matrix of im2col, column by column, transposed: an oracle for every element of col2im."""
    size = int(np.prod(shape))
    columns = [naive_im2col(e.reshape(shape), kernel, stride, padding, dilation).ravel() for e in np.eye(size)]
    c = rng.standard_normal(columns[0].size)
    rows = naive_im2col(np.zeros(shape), kernel, stride, padding, dilation).shape
    back = col2im(xp.asarray(c.reshape(rows)), shape, kernel, stride, padding, dilation)
    assert_close(back, (np.array(columns) @ c).reshape(shape), terms=9)


def test_col2im_adds_up_half_floats_in_float32(xp):
    if not hasattr(xp.xp, "float16"):
        pytest.skip(f"{xp.name} has no float16")
    back = col2im(xp.asarray(np.full((25, 16), 255.0), "float16"), (1, 1, 8, 8), 4)
    assert back.dtype == xp.xp.float16
    assert float(back[0, 0, 4, 4]) == 16 * 255


def test_order_of_rows_and_columns(xp):
    """Rows (n, oh, ow), columns (c, kh, kw)."""
    x = np.arange(2 * 2 * 2 * 3.0).reshape(2, 2, 2, 3)
    col = xp.to_numpy(im2col(xp.asarray(x), 2))
    assert col.tolist() == [
        [0, 1, 3, 4, 6, 7, 9, 10],
        [1, 2, 4, 5, 7, 8, 10, 11],
        [12, 13, 15, 16, 18, 19, 21, 22],
        [13, 14, 16, 17, 19, 20, 22, 23],
    ]


@pytest.mark.parametrize("N, rows", [(1, 9), (10, 90)])
def test_sizes_of_the_book(xp, N, rows):
    assert tuple(im2col(xp.asarray(np.ones((N, 3, 7, 7))), 5).shape) == (rows, 75)


def test_convolution_by_one_matrix_product(xp, rng):
    x, W = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    col = xp.to_numpy(im2col(xp.asarray(x), (3, 2), 2, 1))
    y = (col @ W.reshape(4, -1).T).reshape(2, 3, 3, 4).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y, naive_conv2d(x, W, None, (2, 2), ((1, 1), (1, 1))), atol=1e-12)


def test_any_strides_and_unchanged_argument(xp, rng):
    x = rng.standard_normal((2, 3, 6, 5))
    turned = xp.xp.permute_dims(xp.asarray(np.ascontiguousarray(x.transpose(3, 1, 0, 2))), (2, 1, 3, 0))
    np.testing.assert_array_equal(xp.to_numpy(im2col(turned, 3)), xp.to_numpy(im2col(xp.asarray(x), 3)), strict=True)
    np.testing.assert_array_equal(xp.to_numpy(turned), x)
    c = rng.standard_normal((24, 27))
    turned = xp.xp.permute_dims(xp.asarray(np.ascontiguousarray(c.T)), (1, 0))
    back = col2im(turned, x.shape, 3)
    np.testing.assert_array_equal(xp.to_numpy(back), xp.to_numpy(col2im(xp.asarray(c), x.shape, 3)), strict=True)
    np.testing.assert_array_equal(xp.to_numpy(turned), c)


def test_integers_stay_integers():
    col = im2col(np.arange(9).reshape(1, 1, 3, 3), 2)
    assert col.dtype == np.int64
    assert col2im(col, (1, 1, 3, 3), 2).tolist() == [[[[0, 2, 2], [6, 16, 10], [6, 14, 8]]]]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: im2col(np.ones((3, 7, 7)), 5), ShapeError, "im2col: x must have 4 axes (N, C, H, W), got shape"),
        (lambda: im2col(np.ones((0, 3, 7, 7)), 5), ShapeError, "im2col: the batch is empty"),
        (lambda: im2col([[1.0]], 5), DTypeError, "im2col: expected an array, got list ([[1.0]])"),
        (lambda: im2col(np.ones((1, 1, 3, 3)), 5), ShapeError, "im2col: the output would have -1 rows: floor((3 + 0"),
        (lambda: im2col(np.ones((1, 1, 3, 3)), 0), ArgumentError, "im2col: kernel_size must be at least 1, got 0"),
        (lambda: im2col(np.ones((1, 1, 3, 3)), "2"), ArgumentError, "im2col: kernel_size must be an int or a pair of"),
        (lambda: col2im(3.0, (1, 1, 3, 3), 2), DTypeError, "col2im: expected an array, got float (3.0)"),
        (
            lambda: col2im(np.ones((4, 4)), (1, 3, 3), 2),
            ShapeError,
            "col2im: x_shape must be (N, C, H, W), all at least 1, got (1, 3, 3)",
        ),
        (
            lambda: col2im(np.ones((4, 4)), (0, 1, 3, 3), 2),
            ShapeError,
            "col2im: x_shape must be (N, C, H, W), all at least 1, got (0, 1, 3, 3)",
        ),
        (
            lambda: col2im(np.ones((4, 5)), (1, 1, 3, 3), 2),
            ShapeError,
            "col2im: col must have shape (N*OH*OW, C*KH*KW) = (4, 4) for x_shape=(1, 1, 3, 3), got (4, 5)",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()
