"""Crops, shifts, flips and Cutout against loops over samples and pixels, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import backend
from xpnet.data import augment

SHAPES = [(3, 2, 5, 7), (1, 1, 4, 3), (4, 3, 6, 6)]


def outside(i: int, size: int, mode: str) -> int | None:
    """Where a coordinate outside of an image is looked up, one step at a time; None is the fill."""
    while not 0 <= i < size:
        if mode == "constant":
            return None
        if mode == "edge":
            i += 1 if i < 0 else -1
        else:
            i = -i if i < 0 else 2 * (size - 1) - i
    return i


def window(x, corner, shape, mode, fill):
    """Cut windows out, pixel by pixel."""
    y = np.empty((*x.shape[:2], *shape), x.dtype)
    for n, c, p, q in np.ndindex(y.shape):
        i, j = outside(p + corner[n][0], x.shape[2], mode), outside(q + corner[n][1], x.shape[3], mode)
        y[n, c, p, q] = fill if i is None or j is None else x[n, c, i, j]
    return y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("size", [None, (4, 2), 9], ids=str)
def test_crop(xp, rng, shape, mode, size):
    if size == 9 and mode == "reflect":
        padding = min(shape[2:]) - 1
        size = 2 * padding + min(shape[2:])  # the largest window there is
    else:
        padding = {None: 2, (4, 2): 1, 9: 3}[size]  # less than the window, so that it shows something of the image
    x = rng.normal(size=shape).astype(np.float32)
    crop = augment.RandomCrop(padding, size, mode, fill=-1.5)
    params = crop.draw(shape[0], shape[1:], rng)
    height_width = shape[2:] if size is None else size if isinstance(size, tuple) else (size, size)
    assert crop.output_shape(shape[1:]) == (shape[1], *height_width)
    y = xp.to_numpy(crop.apply(xp.asarray(x), params))
    np.testing.assert_array_equal(y, window(x, params - padding, height_width, mode, -1.5), strict=True)


def test_crop_pads_as_numpy_does(rng):
    x = rng.normal(size=(1, 2, 5, 6))
    for mode in ("constant", "edge", "reflect"):
        y = augment.RandomCrop(3, (11, 12), mode).apply(x, np.zeros((1, 2), int))
        np.testing.assert_array_equal(y[0], np.pad(x[0], ((0, 0), (3, 3), (3, 3)), mode=mode))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("most", [0, 2, 30, 0.5], ids=str)
def test_shift(xp, rng, shape, most):
    x = rng.normal(size=shape).astype(np.float32)
    shift = augment.RandomShift(most, fill=2.0)
    params = shift.draw(shape[0], shape[1:], rng)
    y = xp.to_numpy(shift.apply(xp.asarray(x), params))
    np.testing.assert_array_equal(y, window(x, -params, shape[2:], "constant", 2.0), strict=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flips(xp, rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    params = np.arange(shape[0]) % 2 == 0
    for flip, mirrored in ((augment.HorizontalFlip(), x[..., ::-1]), (augment.VerticalFlip(), x[..., ::-1, :])):
        y = xp.to_numpy(flip.apply(xp.asarray(x), params))
        for n, flipped in enumerate(params):
            np.testing.assert_array_equal(y[n], mirrored[n] if flipped else x[n], strict=True)


def test_two_flips_are_none(xp, rng):
    x = xp.asarray(rng.normal(size=(3, 2, 4, 5)))
    flip = augment.HorizontalFlip(p=1.0)
    once, _ = flip(x, xp.asarray([0, 1, 2]), rng)
    twice, _ = flip(once, xp.asarray([0, 1, 2]), rng)
    assert not np.array_equal(xp.to_numpy(once), xp.to_numpy(x))
    np.testing.assert_array_equal(xp.to_numpy(twice), xp.to_numpy(x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 4, (2, 5), 20], ids=str)
def test_cutout(xp, rng, shape, size):
    x = rng.normal(size=shape).astype(np.float32)
    cut = augment.Cutout(size, fill=0.25)
    height, width = size if isinstance(size, tuple) else (size, size)
    params = cut.draw(shape[0], shape[1:], rng)
    expected = x.copy()
    for n, c, i, j in np.ndindex(shape):
        if params[n][0] <= i < params[n][0] + height and params[n][1] <= j < params[n][1] + width:
            expected[n, c, i, j] = 0.25
    np.testing.assert_array_equal(xp.to_numpy(cut.apply(xp.asarray(x), params)), expected, strict=True)
    assert (expected[:, 0] == 0.25).any(axis=(1, 2)).all(), "each image loses at least its centre pixel"


# --- what is drawn -------------------------------------------------------------------------------


def frequencies(values, expected):
    """Every expected value about as often as the others, and nothing else."""
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == expected
    share = len(values) / len(expected)
    assert abs(counts - share).max() < 5 * np.sqrt(share)


def test_places_of_a_crop_are_equally_likely(rng):
    params = augment.RandomCrop(2).draw(20_000, (3, 8, 6), rng)
    frequencies(params[:, 0], [0, 1, 2, 3, 4])
    frequencies(params[:, 1], [0, 1, 2, 3, 4])
    params = augment.RandomCrop(0, (7, 3)).draw(20_000, (3, 8, 6), rng)
    frequencies(params[:, 0], [0, 1])
    frequencies(params[:, 1], [0, 1, 2, 3])


def test_shifts_are_equally_likely(rng):
    frequencies(augment.RandomShift(1).draw(20_000, (1, 9, 9), rng)[:, 0], [-1, 0, 1])
    params = augment.RandomShift(0.25).draw(20_000, (1, 11, 4), rng)
    frequencies(params[:, 0], [-2, -1, 0, 1, 2])  # a quarter of 11, rounded down
    frequencies(params[:, 1], [-1, 0, 1])


def test_centres_of_cutout_are_equally_likely(rng):
    params = augment.Cutout((4, 3)).draw(20_000, (1, 3, 2), rng)
    frequencies(params[:, 0] + 2, [0, 1, 2])
    frequencies(params[:, 1] + 1, [0, 1])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_share_of_flips(rng, p):
    for flip in (augment.HorizontalFlip(p), augment.VerticalFlip(p)):
        assert flip.draw(20_000, (1, 2, 2), rng).mean() == pytest.approx(p, abs=0.02)


# --- any sizes -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_any_crop(data):
    shape = tuple(data.draw(st.integers(1, 6), label=axis) for axis in "NCHW")
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect"]))
    padding = data.draw(st.integers(0, min(shape[2:]) - 1 if mode == "reflect" else 7))
    least = 1 if mode == "reflect" else padding + 1  # a smaller window might show padding alone
    size = tuple(data.draw(st.integers(least, s + 2 * padding)) for s in shape[2:])
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=shape)
    crop = augment.RandomCrop(padding, size, mode, fill=7.0)
    params = crop.draw(shape[0], shape[1:], rng)
    assert (params >= 0).all()
    assert (params <= np.array(shape[2:]) + 2 * padding - size).all()
    with backend.using("numpy"):
        np.testing.assert_array_equal(crop.apply(x, params), window(x, params - padding, size, mode, 7.0))
