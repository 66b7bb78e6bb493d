"""Layer, group and instance norm for CuPy without a GPU: the CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process

pytestmark = needs_compiler

# shape, groups, scales of a group: one part of a block of threads and several, images that fill a warp and that do not
CASES = [
    ((5, 4), 1, 4),  # layer norm
    ((33, 300), 1, 300),
    ((1, 5, 7), 1, 35),
    ((2, 3, 40, 50), 1, 6000),
    ((40, 6, 20, 15), 2, 3),  # group norm
    ((3, 12), 4, 3),
    ((70, 4, 9, 16), 1, 4),
    ((33, 3, 30, 17), 3, 1),  # instance norm
    ((1, 2, 1, 2), 2, 1),
    ((700, 1, 6, 6), 1, 1),  # a scale of two parts
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, groups, scales", CASES)
def test_values_and_gradients(own, emulator, dtype, shape, groups, scales, rng):
    x, dy = ((2 * rng.standard_normal(shape) + mean).astype(dtype) for mean in (3, 0))
    x, dy = (lie(rng, a) if a.ndim == 4 else np.asfortranarray(a) for a in (x, dy))
    gamma, beta = (rng.standard_normal(groups * scales).astype(dtype) for _ in range(2))
    for scale, shift in ((gamma, beta), (None, None), (gamma, None)):
        results = []
        with emulator.noting() as launched:
            for kernels in (own.get, agnostic):
                y, *statistics = kernels("group_norm_forward")(x, scale, shift, groups, scales, 1e-5)
                if not results:
                    middle = statistics  # the same for both, since their rounding is not what is compared
                gradients = kernels("group_norm_backward")(dy, x, scale, *middle, groups, scales, scale is not None)
                results.append([y, *statistics, *gradients])
        compare(*results, terms=4 * x.size)
        assert len(launched - {"sum_parts"}) == (5 if scale is not None else 4)


def test_infinite_and_nan_values_stay_in_their_image(own, rng):
    x = rng.standard_normal((5, 4, 3, 3)).astype(np.float32)
    x[1, 0, 0, 0], x[3, 3, 2, 2] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        y, *_ = own["group_norm_forward"](x, None, None, 2, 2, 1e-5)
    assert np.isnan(y[1, :2]).all()
    assert np.isnan(y[3, 2:]).all()
    assert np.isfinite(y[[0, 2, 4]]).all()
    assert np.isfinite(y[1, 2:]).all()


@pytest.mark.parametrize("shape, groups", [((40, 2, 30, 25), 1), ((3, 2, 5, 4), 2), ((2, 4, 60, 60), 2)])
def test_digits_are_kept_far_from_zero(own, shape, groups, rng):
    """In groups of one part and of several, with means of 1e3 to 1e5 times the spread: y shows no rounding of them."""
    for mean, spread in ((1e3, 1.0), (1e4, 0.1), (-1e4, 0.1)):
        x = (mean + spread * rng.standard_normal(shape)).astype(np.float32)
        y, *_ = own["group_norm_forward"](x, None, None, groups, shape[1] // groups, 0.0)
        rows = x.astype(np.float64).reshape(shape[0] * groups, -1)
        expected = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
        np.testing.assert_allclose(y.reshape(rows.shape), expected, rtol=1e-5, atol=1e-5)


def test_the_cut_depends_on_the_shape_alone(own, rng):
    """A batch in another order in memory gives the same bits."""
    x = rng.standard_normal((40, 6, 20, 15)).astype(np.float32)
    first, second = (
        own["group_norm_forward"](a, None, None, 2, 3, 1e-5)
        for a in (x, np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2))
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("group_norm") <= emulator.launched
