"""Batches of bytes for CuPy without a GPU: to the bit what the standard-only code gives."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, kernels_of, needs_compiler, needs_one_process
from xpnet import config
from xpnet.data import Loader

pytestmark = needs_compiler

# of a sample: rows that stay in order, images that are turned; tiles that are full and that are not
SHAPES = [(), (1,), (300,), (1, 1, 1), (3, 5, 4), (1, 8, 8), (2, 40), (4, 4, 4, 2), (3, 33, 31)]
SCALES = [None, (1 / 16, 0.0), (0.017, -1.3)]


def orders(sample):
    """The order of the axes as they are and with the batch innermost."""
    return tuple(range(1 + len(sample))), (*range(1, 1 + len(sample)), 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sample", SHAPES)
def test_gathered_rows(own, emulator, dtype, sample, rng):
    stored = rng.integers(0, 256, (70, *sample)).astype(np.uint8)
    for scale in SCALES:
        for order in orders(sample):
            for count in (1, 33, 70):
                rows = rng.permutation(70)[:count]
                with emulator.noting() as launched:
                    got = own["gather_batch"](stored, rows, order, "u", scale, np.dtype(dtype))
                assert len(launched) == 1
                expected = agnostic("gather_batch")(stored, rows, order, "u", scale, np.dtype(dtype))
                np.testing.assert_array_equal(got, expected, strict=True)
                assert got.strides == expected.strides


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_to_float(own, dtype, rng):
    every = np.arange(256, dtype=np.uint8)
    for x in (every, every.reshape(4, 2, 8, 4)[:, :, ::2], np.empty((0, 3), np.uint8)):
        for scale in [*SCALES, *rng.standard_normal((50, 2)).tolist()]:
            got = own["to_float"](x, "u", scale, np.dtype(dtype))
            expected = agnostic("to_float")(x, "u", scale, np.dtype(dtype))
            np.testing.assert_array_equal(got, expected, strict=True)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8])
def test_what_the_kernel_does_not_take(own, emulator, kind, rng):
    """Samples that are floats, no rows, and other orders in memory, are left to CuPy's own functions."""
    stored = rng.integers(0, 200, (5, 3, 4, 4)).astype(kind)
    rows = np.array([3, 1] if kind != np.uint8 else [], np.int64)
    for order in ((0, 1, 2, 3), (1, 2, 3, 0)):
        with emulator.noting() as launched:
            got = own["gather_batch"](stored, rows, order, stored.dtype.kind, (0.5, 1.0), np.dtype("float32"))
        assert launched == set()
        np.testing.assert_array_equal(got, stored[rows] * np.float32(0.5) + np.float32(1.0), strict=True)
    turned = own["gather_batch"](stored, rows, (0, 2, 3, 1), stored.dtype.kind, None, np.dtype("float32"))
    assert turned.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("sample", [(2, 5, 4), (7,)])
def test_batches_of_a_loader(emulator, on_device, sample, rng):
    """With the short last batch and targets that are floats, one launch for the samples of each."""
    x, t = rng.integers(0, 256, (23, *sample)).astype(np.uint8), rng.random((23, 2)).astype(np.float32)
    passes = []
    for kernels in ("auto", "agnostic"):
        with config.using(kernels=kernels), emulator.noting() as launched:
            passes.append(list(Loader(x, t, batch_size=5, seed=2, scale=(0.03, -1.0), on_device=on_device)))
        name = {4: "gather_transposed", 2: "gather_rows"}[x.ndim] if on_device else "bytes_to_float"
        assert launched == ({name} if kernels == "auto" else set())
    for own, standard in zip(*passes, strict=True):
        for a, b in zip(own, standard, strict=True):
            np.testing.assert_array_equal(a, b, strict=True)
            assert a.strides == b.strides


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("batch") <= emulator.launched
