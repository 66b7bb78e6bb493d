"""Global and adaptive pooling for CuPy without a GPU: the CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["max", "average"])
def test_bins_of_random_sizes_and_with_ties(own, emulator, dtype, mode, rng):
    """Overlapping, of one pixel, and more bins than pixels."""
    sizes = [((7, 5), (1, 1)), ((1, 1), (3, 2)), ((6, 6), (6, 6))]
    sizes += [(tuple(map(int, rng.integers(1, 9, 2))), tuple(map(int, rng.integers(1, 9, 2)))) for _ in range(12)]
    for image, size in sizes:
        N, C = map(int, rng.integers(1, 4, 2))
        x = lie(rng, rng.integers(-2, 3, (N, C, *image)).astype(dtype))
        dy = lie(rng, rng.standard_normal((N, C, *size)).astype(dtype))
        results = []
        with emulator.noting() as launched:
            for kernels in (own.get, agnostic):
                y = kernels("bin_pool2d_forward")(x, size, mode, 0.0)
                dx = kernels("bin_pool2d_backward")(dy, None if mode == "average" else x, y, x.shape, mode, 0.0)
                results.append([y, dx])
        compare(*results, terms=16)
        assert launched == {f"bin_{mode}_forward", f"bin_{mode}_backward"}


def test_a_bin_with_nan_is_nan_and_the_first_one_gets_the_gradient(own, rng):
    x, dy = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((2, 2, 2, 3))
    x[0, 0, 2, 2] = x[0, 0, 2, 4] = x[0, 0, 1, 3] = np.nan
    x[1, 1, 2, 2] = np.inf
    results = []
    for kernels in (own.get, agnostic):
        y = kernels("bin_pool2d_forward")(x, (2, 3), "max", 0.0)
        results.append([y, kernels("bin_pool2d_backward")(dy, x, y, x.shape, "max", 0.0)])
    compare(*results, terms=4)
    assert np.isnan(results[0][0][0, 0]).any()


def test_averages_of_large_images_keep_their_digits(own, rng):
    x = (1.0 + rng.random((1, 1, 1000, 900))).astype(np.float32)
    y = own["bin_pool2d_forward"](x, (1, 1), "average", 0.0)
    np.testing.assert_allclose(y[0, 0, 0, 0], x.astype(np.float64).mean(), rtol=2e-5)


def test_norms_are_left_to_the_agnostic_kernel(own, rng):
    x, dy = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 1, 1))
    results = []
    for kernels in (own.get, agnostic):
        y = kernels("bin_pool2d_forward")(x, (1, 1), "lp", 3.0)
        results.append([y, kernels("bin_pool2d_backward")(dy, x, y, x.shape, "lp", 3.0)])
    compare(*results, terms=20)


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("bin_pool") <= emulator.launched
