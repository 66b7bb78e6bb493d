"""Winograd's tiles compiled by Numba: images and batches that fill tiles and vectors or do not, rounding, threads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference import naive_conv2d
from xpnet import config
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.kernels import team
from xpnet.kernels.compiled import loader, winograd
from xpnet.testing import assert_close

pytest.importorskip("numba")

# C, F, height, width, N, padding
SHAPES = [
    (1, 1, 3, 3, 16, 0),
    (3, 7, 9, 8, 33, 1),
    (5, 70, 4, 4, 21, 1),
    (17, 34, 6, 13, 17, ((2, 0), (1, 2))),
    (70, 9, 5, 5, 16, 2),
    (130, 40, 3, 2, 19, ((1, 2), (2, 1))),
    (2, 3, 6, 6, 40, 3),
]


@pytest.fixture
def all_sizes(monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)
    monkeypatch.setattr(winograd, "CHANNELS", 1)


@pytest.fixture
def used(monkeypatch):
    """Return a list of the compiled loops that were called."""
    calls: list[str] = []
    for name in ("_convolve", "_weight_gradient"):
        real = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *given, name=name, real=real: calls.append(name) or real(*given))
    return calls


def images(rng, *shape, dtype="float64"):
    """Return images (N, C, H, W) that lie in memory as (C, H, W, N)."""
    return np.moveaxis(rng.standard_normal((*shape[1:], shape[0])).astype(dtype), -1, 0)


def convolve(x, W, b, dy, **options):
    y, ctx = conv2d_forward(x, W, b, **options)
    return [y, *conv2d_backward(dy.astype(x.dtype), ctx)]


@pytest.mark.usefixtures("all_sizes")
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("workspace", ["4MB", "800KB", "50KB"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_give_what_columns_give(shape, workspace, activation, rng, used):
    C, F, H, W_, N, padding = shape
    x, W, b = images(rng, N, C, H, W_), rng.standard_normal((F, C, 3, 3)), rng.standard_normal(F)
    options = {"padding": padding, "activation": activation}
    with config.using(compiled="off"):
        dy = rng.standard_normal(conv2d_forward(x, W, b, **options)[0].shape)
        expected = convolve(x, W, b, dy, algorithm="gemm", **options)
    with config.using(conv_workspace=workspace):
        results = convolve(x, W, b, dy, algorithm="winograd", **options)
    for got, wanted in zip(results, expected, strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, atol=1e-11 * np.abs(wanted).max())
    if workspace == "4MB":
        forward = 1 if padding == 3 else 2  # more padding than the kernel reaches: dx is not a convolution
        assert sorted(used) == ["_convolve"] * forward + ["_weight_gradient"]


@pytest.mark.parametrize(
    "C, F, H, N, padding",
    [(32, 32, 16, 64, 1), (64, 64, 10, 32, 1), (48, 100, 14, 25, 2), (128, 128, 8, 32, 1), (192, 64, 4, 40, 1)],
)
def test_float32_is_off_by_little(C, F, H, N, padding, rng, used):
    x, W = images(rng, N, C, H, H), rng.standard_normal((F, C, 3, 3))
    dy = rng.standard_normal((N, F, H + 2 * padding - 2, H + 2 * padding - 2))
    exact = convolve(x, W, None, dy, padding=padding, algorithm="gemm")
    single = convolve(x.astype(np.float32), W.astype(np.float32), None, dy, padding=padding)
    assert sorted(used) == ["_convolve", "_convolve", "_weight_gradient"]
    for got, wanted in zip(single[:3], exact[:3], strict=True):
        assert got.dtype == np.float32
        assert np.linalg.norm(got - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_gradients_of_sums_that_do_not_cancel(rng):
    """Images and gradients that are positive, as behind relu: the sums grow with every tile."""
    x, W = np.abs(images(rng, 64, 32, 16, 16)), rng.standard_normal((32, 32, 3, 3))
    dy = np.abs(rng.standard_normal((64, 32, 16, 16)))
    exact = convolve(x, W, None, dy, padding=1, algorithm="gemm")
    single = convolve(x.astype(np.float32), W.astype(np.float32), None, dy, padding=1, algorithm="winograd")
    for got, wanted in zip(single[:3], exact[:3], strict=True):
        assert np.linalg.norm(got - wanted) < 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize("C, F", [(16, 24), (64, 40), (130, 64)])
def test_any_number_of_threads_gives_the_same_bits(C, F, monkeypatch, rng):
    x, W = images(rng, 33, C, 14, 14, dtype="float32"), rng.standard_normal((F, C, 3, 3), dtype=np.float32)
    dy = rng.standard_normal((33, F, 14, 14))
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(winograd, "threads_allowed", lambda threads=threads: threads)
        monkeypatch.setattr(team, "threads_allowed", lambda threads=threads: threads)
        with config.using(conv_workspace="16MB"):
            results.append(convolve(x, W, np.ones(F, np.float32), dy, padding=1, algorithm="winograd"))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


@pytest.mark.usefixtures("all_sizes")
def test_arguments_may_be_read_only_and_stay_as_they_are(rng):
    given = [images(rng, 16, 3, 6, 6), rng.standard_normal((5, 3, 3, 3)), rng.standard_normal(5)]
    given.append(rng.standard_normal((16, 5, 6, 6)))
    before = [a.copy() for a in given]
    for a in given:
        a.flags.writeable = False
    y = convolve(*given, padding=1, algorithm="winograd")[0]
    assert_close(y, naive_conv2d(before[0], before[1], before[2], padding=((1, 1), (1, 1))), terms=300)
    for a, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, old)


def test_auto_takes_tiles_where_they_fill_vectors():
    def chosen(N, C, H, F, dtype="float32"):
        x, W = np.ones((N, C, H, H), dtype), np.ones((F, C, 3, 3), dtype)
        return conv2d_forward(x, W, padding=1)[1].algorithm

    assert chosen(64, 16, 16, 16) == chosen(64, 16, 16, 16, "float64") == chosen(64, 64, 4, 64) == "winograd"
    assert chosen(64, 15, 16, 16) == chosen(64, 16, 16, 15) == "gemm"  # too few channels
    assert chosen(2, 32, 16, 32) == "gemm"  # vectors of two images would be mostly empty
    assert chosen(64, 16, 5, 16) == "gemm"  # 8x8 outputs would be made for 5x5
