"""Turning and scaling against loops over pixels and against torch, and the cases that are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet.data import augment
from xpnet.data.augment import AffineParams, RandomAffine, Rotation, Scaling, sampling

SHAPES = [(3, 2, 5, 7), (1, 1, 4, 3), (2, 3, 6, 6), (2, 1, 1, 1)]


def naive(x, params, fill):
    """One pixel at a time: undo shift, scale and turn, and take the mean of the four pixels around."""
    N, C, H, W = x.shape
    y = np.zeros(x.shape, np.float64)
    for n, i, j in np.ndindex(N, H, W):
        theta = math.radians(params.angle[n])
        right = j - (W - 1) / 2 - params.shift[n][1]
        up = -(i - (H - 1) / 2 - params.shift[n][0])
        right, up = (  # turned back, clockwise
            (right * math.cos(theta) + up * math.sin(theta)) / params.scale[n],
            (-right * math.sin(theta) + up * math.cos(theta)) / params.scale[n],
        )
        row, col = (H - 1) / 2 - up, (W - 1) / 2 + right
        for a in (math.floor(row), math.floor(row) + 1):
            for b in (math.floor(col), math.floor(col) + 1):
                weight = (1 - abs(row - a)) * (1 - abs(col - b))
                inside = 0 <= a < H and 0 <= b < W
                y[n, :, i, j] += weight * (x[n, :, a, b] if inside else fill)
    return y


def drawn(n, rng, shift=2.0):
    return AffineParams(rng.uniform(-180, 180, n), rng.uniform(0.3, 2.5, n), rng.uniform(-shift, shift, (n, 2)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fill", [0.0, -0.75])
def test_against_loops(xp, rng, shape, fill):
    x = rng.normal(size=shape)
    params = drawn(shape[0], rng)
    for dtype, tolerance in ((np.float32, 2e-5), (np.float64, 1e-12)):
        y = xp.to_numpy(RandomAffine(fill=fill).apply(xp.asarray(x.astype(dtype)), params))
        assert y.dtype == dtype
        np.testing.assert_allclose(y, naive(x.astype(dtype), params, fill), atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_torch(rng, shape):
    torch = pytest.importorskip("torch")
    N, _, H, W = shape
    x, params = rng.normal(size=shape), drawn(N, rng)
    theta = np.deg2rad(params.angle)
    c, s = np.cos(theta) / params.scale, np.sin(theta) / params.scale
    # torch's maps take (column, row), in units of half the width and height
    linear = np.stack([np.stack([c, -s * H / W], -1), np.stack([s * W / H, c], -1)], 1)
    shift = params.shift[:, ::-1] * 2 / np.array([W, H])
    maps = np.concatenate([linear, -linear @ shift[..., None]], axis=2)
    grid = torch.nn.functional.affine_grid(torch.asarray(maps), shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(torch.asarray(x), grid, align_corners=False, padding_mode="zeros")
    np.testing.assert_allclose(RandomAffine().apply(x, params), expected.numpy(), atol=1e-10)


def test_no_turn_is_the_image_itself(xp, rng):
    x = rng.normal(size=(3, 2, 5, 8)).astype(np.float32)
    for change in (Rotation(0), Scaling((1, 1)), RandomAffine()):
        y, _ = change(xp.asarray(x), xp.asarray([0, 1, 2]), rng)
        np.testing.assert_array_equal(xp.to_numpy(y), x, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("quarters", [-5, -2, -1, 1, 2, 3, 4])
def test_quarter_turns_are_exact(xp, rng, quarters, dtype):
    x = rng.normal(size=(2, 3, 6, 6)).astype(dtype)
    params = AffineParams(np.full(2, 90.0 * quarters), np.ones(2), np.zeros((2, 2)))
    y = xp.to_numpy(Rotation().apply(xp.asarray(x), params))
    np.testing.assert_array_equal(y, np.rot90(x, quarters, axes=(2, 3)), strict=True)


def test_half_a_turn_of_an_image_that_is_not_square_is_exact(xp, rng):
    x = rng.normal(size=(1, 2, 4, 7)).astype(np.float32)
    y, _ = Rotation((180, 180))(xp.asarray(x), xp.asarray([0]), rng)
    np.testing.assert_array_equal(xp.to_numpy(y), x[:, :, ::-1, ::-1], strict=True)


def test_a_shift_by_whole_pixels_moves_them(xp, rng):
    x = rng.normal(size=(1, 2, 4, 5)).astype(np.float32)
    params = AffineParams(np.zeros(1), np.ones(1), np.array([[1.0, -2.0]]))
    expected = np.zeros_like(x)
    expected[:, :, 1:, :3] = x[:, :, :3, 2:]
    np.testing.assert_array_equal(xp.to_numpy(RandomAffine().apply(xp.asarray(x), params)), expected, strict=True)


def test_twice_the_size_of_a_single_bright_pixel(xp):
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 4.0
    params = AffineParams(np.zeros(1), np.full(1, 2.0), np.zeros((1, 2)))
    y = xp.to_numpy(Scaling().apply(xp.asarray(x), params))[0, 0]
    hat = np.array([0.0, 0.5, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(y, 4.0 * np.outer(hat, hat), atol=1e-6)


def test_constant_images_stay_constant_with_their_value_as_fill(xp, rng):
    x = np.full((4, 1, 6, 9), 0.3, np.float32)
    y, _ = RandomAffine(180, (0.2, 3.0), 0.5, fill=0.3)(xp.asarray(x), xp.asarray([0] * 4), rng)
    np.testing.assert_allclose(xp.to_numpy(y), x, rtol=1e-6)


def test_blocks_do_not_show(rng, monkeypatch):
    x, params = rng.normal(size=(3, 2, 7, 5)), drawn(3, rng)
    whole = RandomAffine().apply(x, params)
    monkeypatch.setattr(sampling, "_HOST_BLOCK", 2 * 5 * 3)  # two rows at a time, then the last
    np.testing.assert_array_equal(RandomAffine().apply(x, params), whole)


def test_draws_are_uniform_in_their_ranges(rng):
    params = RandomAffine((-10, 50), (0.5, 2.0), 0.25).draw(20_000, (1, 8, 40), rng)
    for values, low, high in (
        (params.angle, -10, 50),
        (params.scale, 0.5, 2.0),
        (params.shift[:, 0], -2, 2),
        (params.shift[:, 1], -10, 10),
    ):
        assert low <= values.min() < values.max() <= high
        quarters = np.histogram(values, bins=4, range=(low, high))[0]
        np.testing.assert_allclose(quarters, 5000, atol=350)
    params = Rotation(30).draw(1000, (1, 8, 8), rng)
    assert params.angle.min() < -25 < 25 < params.angle.max()
    assert (params.scale == 1).all()
    assert not params.shift.any()
    params = Scaling((0.5, 0.6)).draw(1000, (1, 8, 8), rng)
    assert 0.5 <= params.scale.min() < params.scale.max() <= 0.6
    assert not params.angle.any()


def test_half_types_are_computed_in_float32(rng):
    x = rng.normal(size=(2, 1, 12, 12)).astype(np.float16)
    params = drawn(2, rng)
    y = augment.RandomAffine().apply(x, params)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, augment.RandomAffine().apply(x.astype(np.float32), params).astype(np.float16))
