"""The classical filters against loops over pixels and published kernels, and pictures read from files."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend, errors, filters

SHAPES = [(5, 7), (6, 4, 3), (2, 3, 5, 4), (1, 1), (1, 6, 3)]
each = pytest.mark.parametrize("name", filters.names())


def naive(image, kernel):
    """Lay the kernel on every pixel of every channel; beyond the border, the nearest pixel counts."""
    channels = image[..., None] if image.ndim == 2 else image.transpose(2, 3, 0, 1) if image.ndim == 4 else image
    H, W = channels.shape[:2]
    y = np.zeros(channels.shape, np.float64)
    for p, q in np.ndindex(H, W):
        for i, j in np.ndindex(kernel.shape):
            row, col = p + i - kernel.shape[0] // 2, q + j - kernel.shape[1] // 2
            y[p, q] += kernel[i, j] * channels[min(max(row, 0), H - 1), min(max(col, 0), W - 1)].astype(np.float64)
    return y[..., 0] if image.ndim == 2 else y.transpose(2, 3, 0, 1) if image.ndim == 4 else y


@each
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_apply(xp, rng, name, shape):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    exact = naive(image, filters.kernel(name))
    y = xp.to_numpy(filters.apply(xp.asarray(image), name))
    assert y.dtype == np.uint8
    assert y.shape == shape
    assert abs(y - exact.clip(0, 255)).max() <= 0.5 + 1e-4  # rounded to the nearest
    signed = xp.to_numpy(filters.apply(xp.asarray(image), name, clip=False))
    assert signed.dtype == np.float32
    np.testing.assert_allclose(signed, exact, atol=1e-3)
    given = xp.asarray(image.astype(np.float64))
    wide = xp.to_numpy(filters.apply(given, name))
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, exact.clip(0, 255), atol=1e-9)
    np.testing.assert_array_equal(xp.to_numpy(given), image)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 1)], ids=str)
def test_weights_of_ones_own(xp, rng, size):
    image, weights = rng.normal(size=(6, 5, 3)), rng.normal(size=size)
    y = xp.to_numpy(filters.apply(xp.asarray(image), weights, clip=False))
    np.testing.assert_allclose(y, naive(image, weights), atol=1e-9)
    np.testing.assert_array_equal(xp.to_numpy(filters.apply(xp.asarray(image), weights.tolist(), clip=False)), y)


def test_half_floats_are_kept(rng):
    image = (255 * rng.random((6, 6))).astype(np.float16)
    y = filters.apply(image, "gaussian_blur_5x5")
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, naive(image, filters.kernel("gaussian_blur_5x5")), rtol=1e-3)


def test_kernels_are_those_of_the_books():
    assert filters.names() == [
        "horizontal_edge",
        "vertical_edge",
        "sobel_x",
        "sobel_y",
        "laplacian",
        "sharpen",
        "gaussian_blur_3x3",
        "gaussian_blur_5x5",
        "edge_enhancement",
        "mean_3x3",
    ]
    k = filters.kernel
    np.testing.assert_array_equal(k("horizontal_edge"), k("vertical_edge").T)
    np.testing.assert_array_equal(k("sobel_y"), [[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    np.testing.assert_array_equal(k("sobel_x"), k("sobel_y").T)
    np.testing.assert_array_equal(k("laplacian"), [[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    np.testing.assert_array_equal(k("sharpen"), [[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    np.testing.assert_array_equal(k("gaussian_blur_3x3") * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert (k("gaussian_blur_5x5") * 256)[0].tolist() == [1, 4, 6, 4, 1]
    assert (k("gaussian_blur_5x5") * 256)[2].tolist() == [6, 24, 36, 24, 6]
    assert k("edge_enhancement")[1].tolist() == [-1, 9, -1]
    for name in filters.names():
        total = 0.0 if "edge" in name.partition("_")[2] or name in ("sobel_x", "sobel_y", "laplacian") else 1.0
        assert k(name).sum() == pytest.approx(total), name


def test_a_kernel_is_a_new_one_each_time():
    filters.kernel("sharpen")[:] = 0.0
    assert filters.kernel("sharpen")[1, 1] == 5.0


@each
def test_a_plain_image_has_no_frame(name):
    y = filters.apply(np.full((7, 9), 200, np.uint8), name)
    assert (y == (200 if filters.kernel(name).sum() > 0.5 else 0)).all()


def test_each_edge_filter_answers_to_its_edges():
    rows = np.zeros((8, 8), np.uint8)
    rows[4:] = 50
    for name, seen in (("horizontal_edge", 150), ("sobel_y", 200), ("vertical_edge", 0), ("sobel_x", 0)):
        assert filters.apply(rows, name).max() == seen
        turned = dict(
            horizontal_edge="vertical_edge", vertical_edge="horizontal_edge", sobel_x="sobel_y", sobel_y="sobel_x"
        )
        assert filters.apply(rows.T, turned[name]).max() == seen


def test_bad_arguments():
    image = np.zeros((4, 4), np.uint8)
    with pytest.raises(errors.ArgumentError, match="no filter 'blur'; there are horizontal_edge, "):
        filters.apply(image, "blur")
    for weights in (np.ones((2, 3)), np.ones(3), [[1, 2], [3]], np.full((3, 3), np.nan), "sobel", None):
        with pytest.raises((errors.ArgumentError, errors.DTypeError)):
            filters.apply(image, weights)
    with pytest.raises(errors.DTypeError, match="uint8 or floats, got int64"):
        filters.apply(image.astype(np.int64), "sobel_x")
    with pytest.raises(errors.DTypeError, match="expected an array"):
        filters.apply([[1, 2]], "sobel_x")
    for shape in ((4,), (4, 4, 4), (1, 1, 1, 1, 1)):
        with pytest.raises(errors.ShapeError, match=r"\(H, W\), \(H, W, 3\) or \(N, C, H, W\)"):
            filters.apply(np.zeros(shape), "sobel_x")
    with pytest.raises(errors.ShapeError, match="empty"):
        filters.apply(np.zeros((0, 4)), "sobel_x")


# --- pictures ------------------------------------------------------------------------------------


def test_plot(xp, rng, tmp_path):
    pytest.importorskip("matplotlib")
    image = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    figure = filters.plot(xp.asarray(image), ["laplacian", "mean_3x3"])
    assert [axes.get_title() for axes in figure.axes] == ["original", "laplacian", "mean_3x3"]
    for axes, expected in zip(
        figure.axes, (image, filters.apply(image, "laplacian"), filters.apply(image, "mean_3x3")), strict=True
    ):
        np.testing.assert_allclose(axes.images[0].get_array(), expected / 255.0, atol=1 / 255 + 1e-6)


def test_plot_of_everything_and_on_axes(tmp_path):
    figures = pytest.importorskip("matplotlib.figure")
    image = np.eye(8) * 255.0
    figure = filters.plot(image)
    figure.savefig(tmp_path / "a.png")
    assert [axes.get_title() for axes in figure.axes] == ["original", *filters.names()]
    own = figures.Figure()
    axes = own.subplots(1, 2)
    assert filters.plot(image, ["sharpen"], ax=axes) is own
    with pytest.raises(errors.ArgumentError, match="2 axes needed, one for each picture; got 1"):
        filters.plot(image, ["sharpen"], ax=axes[:1])
    with pytest.raises(errors.ShapeError, match=r"filters.plot: image must have shape \(H, W\)"):
        filters.plot(np.zeros((1, 1, 4, 4)))


def test_the_selected_backend_gets_the_image_when_asked(xp):
    image = backend.asarray(np.zeros((4, 4), np.uint8))
    assert backend.array_namespace(filters.apply(image, "sharpen")) is xp.xp
