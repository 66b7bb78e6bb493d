"""Softmax cross entropy for CuPy without a GPU: the CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, needs_compiler, needs_one_process

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 2), (5, 10), (3, 300), (300, 3)])
def test_softmax_cross_entropy(own, dtype, shape, rng):
    logits = (5 * rng.standard_normal(shape)).astype(dtype)
    logits[0, 0] = -np.inf
    target = rng.random(shape).astype("float32" if dtype == "float16" else dtype)
    target[rng.random(shape) < 0.5] = 0.0
    target[0, 0] = 0.0
    results = []
    for kernels in (own.get, agnostic):
        loss, p = kernels("softmax_cross_entropy_forward")(np.asfortranarray(logits), target)
        backward = kernels("softmax_cross_entropy_backward")
        results.append([loss, p, backward(0.5, p, target), backward(np.asarray(loss) * 0.01, p, target)])
    compare(*results, terms=shape[0] * shape[1])


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("share", [1.0, 1 / 300])
def test_one_hot(own, dtype, share, rng):
    labels = rng.integers(0, 7, 300)
    wrong = [*rng.integers(7, 2**40, 3), -1]
    for checked, t in ((True, labels), (False, labels), (False, np.array([*wrong, *labels]))):
        got = own["one_hot"](t, 7, np.dtype(dtype), share, checked)
        expected = np.full((t.size, 7), np.nan)
        expected[-300:] = np.eye(7)[labels] * share
        compare([got], [expected.astype(dtype)])
        compare([agnostic("one_hot")(t, 7, np.dtype(dtype), share, checked)], [expected.astype(dtype)])


def test_softmax_cross_entropy_of_nan_is_nan(own):
    target = np.eye(3)
    logits = np.zeros((3, 3))
    logits[1, 2] = np.nan
    loss, p = own["softmax_cross_entropy_forward"](logits, target)
    assert np.isnan(loss)
    assert np.isnan(p[1]).all()
    assert np.isfinite(p[[0, 2]]).all()
    assert np.isnan(own["softmax_cross_entropy_forward"](np.zeros((3, 3)), target * np.nan)[0])


def test_a_row_without_targets_adds_nothing_whatever_it_holds(own):
    logits, target = np.zeros((3, 3)), np.eye(3) / 2
    logits[1], target[1] = [np.nan, np.inf, 0.0], 0.0  # as where ignore_index leaves the row out
    loss, p = own["softmax_cross_entropy_forward"](logits, target)
    assert loss == pytest.approx(np.log(3))
    p[1] = 0.0
    gradient = own["softmax_cross_entropy_backward"](1.0, p, target)
    assert not gradient[1].any()
    assert np.isfinite(gradient).all()
    assert gradient[0].all()


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("loss") <= emulator.launched
