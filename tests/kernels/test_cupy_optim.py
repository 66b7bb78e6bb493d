"""Optimizer updates for CuPy without a GPU: their CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, needs_compiler, needs_one_process

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rates", [False, True])
def test_optimizers(own, emulator, dtype, rates, rng):
    for name in [n for n in own if n.endswith("_update") and n != "lamb_update"]:
        parameters = inspect.signature(own[name]).parameters.values()
        arrays = [rng.standard_normal(700) for _ in range(2)]
        arrays[1][5:7] = np.nan, 0.0
        arrays += [rng.random(700) for p in list(parameters)[2:] if p.kind is not p.KEYWORD_ONLY]
        numbers = {p.name: 3 if p.name == "step" else 0.3 for p in parameters if p.kind is p.KEYWORD_ONLY}
        if rates:
            numbers["lr"] = rng.random(700).astype(dtype)
        results = []
        with emulator.noting() as launched:
            for kernel in (own[name], agnostic(name)):
                given = [a.astype(dtype) for a in arrays]
                assert kernel(*given, **numbers) is None
                results.append(given)
        compare(*results, terms=5)
        assert len(launched) == 1
        gaps = [np.repeat(a.astype(dtype), 2)[::2] for a in arrays]  # no flat array of a model, but an array
        assert own[name](*gaps, **numbers) is None
        compare(gaps, results[1], terms=5)


@pytest.mark.parametrize("gaps", [False, True])
def test_master_weights(own, gaps, rng):
    """Bit for bit: rounding to even, weights that somebody has written, beyond float16, NaN and zeros."""
    master = rng.standard_normal(700).astype(np.float32)
    master[:4] = 1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, 60000.0, 1e-9
    w = master.astype(np.float16)
    w[5:8], w[8:10], master[9] = (2.0, np.nan, np.inf), 0.0, -0.0
    g = rng.standard_normal(700).astype(np.float16)
    g[3] = np.inf
    results = []
    for kernels in (own.get, agnostic):
        arrays = [np.repeat(a, 2)[::2] if gaps else a.copy() for a in (w, g, master)]
        wide = kernels("widen_weights")(*arrays, factor=1 / 1024)
        arrays[2] += 2.0**-12
        assert kernels("narrow_weights")(arrays[0], arrays[2]) is None
        results.append([wide, *arrays])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rates", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
def test_weight_decay(own, dtype, rates, gaps, rng):
    w, g, decay = (rng.standard_normal(700).astype(dtype) for _ in range(3))
    lr = rng.random(700).astype(dtype) if rates else 0.3
    results = []
    for kernels in (own.get, agnostic):
        given = [np.repeat(a, 2)[::2] if gaps else a.copy() for a in (w, decay)]
        assert kernels("decay_weights")(*given, lr=lr) is None
        results.append([*given, kernels("decay_gradient")(g, w, decay)])
    compare(*results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decayed", [False, True])
@pytest.mark.parametrize("rates", [False, True])
def test_lamb(own, emulator, dtype, decayed, rates, rng):
    """Parameters of one element and of several chunks; one whose weights and one whose step are zero."""
    ends = [0, 1, 300, 310, 320, 40_000, 56_384]
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    arrays = [rng.standard_normal(ends[-1]) * 0.1 for _ in range(2)] + [rng.random(ends[-1]) for _ in range(2)]
    arrays[0][300:310] = 0.0
    for a in arrays[1:3]:
        a[310:320] = 0.0
    decay = rng.random(ends[-1]).astype(dtype) if decayed else None
    if decayed:
        decay[300:320] = 0.0
    lr = rng.random(ends[-1]).astype(dtype) if rates else 0.3
    numbers = {"lr": lr, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "step": 3, "decay": decay}
    for cut in (parts, [...]):
        results = []
        with emulator.noting() as launched:
            for kernels in (own.get, agnostic):
                given = [a.astype(dtype) for a in arrays]
                assert kernels("lamb_update")(*given, **numbers, parts=cut) is None
                results.append(given)
        compare(*results, terms=5)
        assert launched == {"lamb_step", "lamb_norms", "lamb"}
        gaps = [np.repeat(a.astype(dtype), 2)[::2] for a in arrays]
        assert own["lamb_update"](*gaps, **numbers, parts=cut) is None
        compare(gaps, results[1], terms=5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 700, 40_000])
def test_clipping_by_norm(own, dtype, size, rng):
    """A norm within the limit and beyond it; with 40,000 elements the sum has several parts."""
    g = (0.1 * rng.standard_normal(size)).astype(dtype)
    for lying in (g, np.repeat(g, 2)[::2]):
        results = []
        for kernels in (own.get, agnostic):
            clip, norm = kernels("clip_by_norm"), np.sqrt(kernels("square_sum")(lying))
            results.append([norm, *(clip(lying, norm, float(norm[0]) * factor) for factor in (0.5, 2.0))])
        compare(*results, terms=size)
        np.testing.assert_array_equal(results[0][2], g)
    for norm in (np.inf, np.nan):
        given = np.array([norm], dtype)
        compare([own["clip_by_norm"](g, given, 1.0)], [agnostic("clip_by_norm")(g, given, 1.0)])


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("clip", "lamb", "optim") <= emulator.launched
