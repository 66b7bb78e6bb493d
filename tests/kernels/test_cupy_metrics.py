"""Counting of loss and accuracy for CuPy without a GPU: the CUDA sources give what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, kernels_of, needs_compiler, needs_one_process
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.training.evaluation import Means

pytestmark = needs_compiler

# one part and several, threads for many rows and for one
SHAPES = [(1, 1), (4, 10), (64, 10), (700, 3), (2000, 10), (3, 300), (70, 1000), (2, 20000)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_count_correct(own, dtype, shape, rng):
    """With ties, of which the first counts, NaN and infinite scores, labels of no class and rows left out."""
    y = rng.integers(-9, 9, shape).astype(dtype)
    y[rng.random(shape) < 0.5 / shape[1]] = np.nan
    y[rng.random(shape) < 0.5 / shape[1]] = np.inf
    y[rng.random(shape[0]) < 0.1] = -np.inf
    labels = np.where(rng.random(shape[0]) < 0.5, y.argmax(axis=1), rng.integers(-1, shape[1] + 2, shape[0]))
    for ignored in (None, -1, 0):
        kept = labels != ignored
        hits = int(np.sum((y.argmax(axis=1) == labels) & kept))
        for before in ((0, 0), (3, 5), (np.asarray(3), np.asarray(2**40))):
            expected = int(before[0]) + hits, int(before[1]) + int(kept.sum())
            for kernel in (own["count_correct"], agnostic("count_correct")):
                correct, counted = kernel(np.asfortranarray(y), labels, ignored, *before)
                assert (int(correct), int(counted)) == expected
                assert correct.dtype == np.int64
            assert [int(n) for n in before] in ([0, 0], [3, 5], [3, 2**40])


def test_few_rows_are_one_launch(own, emulator, rng):
    for rows, launches in ((1000, {"count_correct"}), (2000, {"count_correct", "add_counts"})):
        with emulator.noting() as launched:
            own["count_correct"](np.zeros((rows, 10)), np.zeros(rows, np.int64), None, 0, 0)
        assert launched == launches


def test_what_the_kernel_does_not_take(own, emulator):
    """An empty batch, whole numbers for scores, and labels that do not fit, are left to CuPy's own functions."""
    with emulator.noting() as launched:
        assert own["count_correct"](np.zeros((0, 3)), np.zeros(0, np.int64), None, 2, 1) == (2, 1)
        assert own["count_correct"](np.eye(3, dtype=int), np.array([0, 1, 1]), None, 0, 0) == (2, 3)
        assert own["add_product"](np.float32(1), 2.0, 3.0) == 7.0
        with pytest.raises(ValueError, match="broadcast"):
            own["count_correct"](np.zeros((3, 2)), np.zeros(2, np.int64), None, 0, 0)
    assert launched == set()


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_add_product(own, dtype, rng):
    """To the bit: the product is rounded before it is added."""
    for total, value, weight in rng.standard_normal((30, 3)):
        arrays = [np.asarray(n, dtype) for n in (total, value, weight)]
        for given in (arrays, [float(total), arrays[1], float(weight)], [0.0, arrays[1], 64.0]):
            made = own["add_product"](*given)
            assert made.dtype == dtype
            assert made == agnostic("add_product")(*given)
    assert np.isnan(own["add_product"](0.0, np.asarray(np.nan, dtype), 2.0))


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("settings", [{}, {"ignore_index": 1}, {"class_weights": (0.5, 1.0, 2.0)}])
def test_means_of_batches(rng, settings):
    """Added to what was counted before, and in mid-epoch to a state that was saved."""
    loss = SoftmaxCrossEntropy(**settings)
    means, expected, total = Means(loss), [0, 0], [0.0, 0.0]
    for number, n in enumerate((8, 8, 8, 5)):
        y, t = rng.standard_normal((n, 3)).astype(np.float32), rng.integers(0, 3, n)
        value, kept, weight = loss(y, t), t != loss.ignore_index, loss.weight(y, t)
        means.add(value, y, t)
        if number == 1:
            saved, means = means.state_dict(), Means(loss)
            means.load_state_dict(saved)
        expected = [expected[0] + ((y.argmax(1) == t) & kept).sum(), expected[1] + kept.sum()]
        total = [total[0] + value * weight, total[1] + weight]
    assert means.read().accuracy == expected[0] / expected[1]
    assert means.read().loss == pytest.approx(total[0] / total[1], rel=1e-6)


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("metrics") <= emulator.launched
