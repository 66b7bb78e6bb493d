"""Steps launched as CUDA graphs, on a GPU: what they learn, what their memory becomes, and what CUDA refuses."""

from __future__ import annotations

import gc
import importlib

import numpy as np
import pytest

from tests.training.captured_runs import CASES, assert_equal, train
from tests.training.test_captured import ByCuBLAS, Uploading, Waiting
from xpnet import backend
from xpnet.backend import memory
from xpnet.errors import StateError
from xpnet.layers import Dense, Flatten, Sequential
from xpnet.losses import BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError
from xpnet.training import CapturedGradients, Trainer
from xpnet.training.step import forward_backward


@pytest.fixture
def on_gpu():
    status = next(s for s in backend.available() if s.name == "cupy")
    if not status.usable:
        pytest.skip(f"cupy: {status.reason}")
    with backend.using("cupy", dtype="float64") as chosen:
        yield chosen


@pytest.mark.parametrize("case", CASES)
def test_graphs_of_a_gpu(on_gpu, data, case):
    """The same weights as without them; in float64, where products by another kernel are the same but for rounding."""
    results = [train(CASES[case](cuda_graph=cuda_graph), data) for cuda_graph in (False, True)]
    assert_equal(results[1], results[0])


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5), ("float16", 2e-3)])
def test_products_of_a_gpu(on_gpu, dtype, tolerance, rng):
    """Every tile, parts of sums, batches, and rows or columns beside each other; compared to cuBLAS."""
    product = importlib.import_module("xpnet.kernels.cupy.matmul").capturable_product
    for G, M, K, N in ((1, 6, 50000, 25), (1, 6, 25, 50000), (1, 64, 400, 120), (1, 2100, 300, 1700), (5, 33, 70, 65)):
        a, b = (backend.asarray(rng.standard_normal(shape) / K**0.5).astype(dtype) for shape in ((G, K, M), (G, K, N)))
        for left, right in ((a.swapaxes(1, 2), b), (a.swapaxes(1, 2).copy(), b.swapaxes(1, 2).copy().swapaxes(1, 2))):
            got = product(left[0], right[0])[None] if G == 1 else product(left, right)
            exact = left.astype("float64") @ right.astype("float64")
            assert float(abs(got.astype("float64") - exact).max()) < tolerance * max(1.0, float(abs(exact).max()))


@pytest.mark.parametrize("loss", [BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError])
def test_losses_in_graphs_of_a_gpu(on_gpu, loss, rng):
    """None of them waits for the device."""
    x, t = backend.asarray(rng.standard_normal((6, 5))), backend.asarray(rng.integers(0, 2, (6, 3)).astype(float))
    model, measure, gradients = Sequential(Dense(3)).build((5,), rng=1), loss(), []
    for run in (forward_backward, CapturedGradients()):
        for _ in range(3):
            run(model, measure, x, t)
        gradients.append(backend.to_numpy(model.store.segments[0].grad))
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-9)


def test_memory_of_graphs_of_a_gpu(on_gpu, data):
    """All of it is given back when the fit ends."""
    used = []
    for _ in range(3):
        train(CASES["relu"](cuda_graph=True), data)
        gc.collect()
        used.append(memory.device_memory(on_gpu.xp, on_gpu.device).used)
    assert used[2] == used[1]


def test_what_a_gpu_refuses(on_gpu, data):
    """Not the stand-in's errors but CUDA's and CuPy's; training without a graph goes on."""
    for layer in (Waiting, Uploading, ByCuBLAS):
        trainer = Trainer(Sequential(Flatten(), layer(3)), cuda_graph=True)
        with pytest.raises(StateError, match="cannot be recorded"):
            train(trainer, data)
        trainer._captured = None
        train(trainer, data, epochs=1)
