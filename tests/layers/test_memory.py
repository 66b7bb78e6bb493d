"""The predicted memory of a training step against what NumPy really allocates."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from xpnet import backend, config, cores, losses, models, optim
from xpnet.bench import WORKLOADS
from xpnet.layers import Dense, Sequential
from xpnet.layers.memory import COMPILED
from xpnet.training import train_step


def measured(model, optimizer, batch: int) -> int:
    """Peak of the memory allocated from before a model is built until its second step has ended."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *model.input_shape), dtype=np.float32)
    t, loss = rng.integers(0, 10, batch), losses.SoftmaxCrossEntropy()
    train_step(model, loss, optimizer, x, t)  # the optimizer makes its state
    tracemalloc.reset_peak()
    train_step(model, loss, optimizer, x, t)
    return tracemalloc.get_traced_memory()[1]


@pytest.fixture
def _traced():
    train_step(
        Dense(10).build((4,)), losses.SoftmaxCrossEntropy(), optim.SGD(), np.ones((2, 4), "f4"), np.array([0, 1])
    )
    tracemalloc.start()  # after the first use of everything
    try:
        with backend.using("numpy"), config.using(compiled="off"):  # Numba's kernels need less scratch memory
            yield
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize(
    ("name", "shape", "batch"),
    [
        ("lenet", (1, 28, 28), 128),
        ("simple_convnet", (1, 28, 28), 20),  # whose columns are less than a block
        ("deep_convnet", (1, 28, 28), 50),
        ("resnet20", (3, 32, 32), 8),
        ("mobilenet_v2", (3, 32, 32), 8),
        ("squeezenet", (3, 64, 64), 4),
        ("resnet18", (3, 32, 32), 2),  # where the update takes most
    ],
)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_peak_of_a_step(name, shape, batch, optimizer) -> None:
    model = models.by_name(name).build(shape, rng=0)
    predicted = model.summary().training_memory(batch, optimizer)
    found = measured(model, optim.by_name(optimizer, lr=0.001), batch)
    assert 0.9 * (predicted.total - config.get("conv_workspace")) < found < 1.12 * predicted.total


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_peak_of_a_step_with_compiled_kernels(name) -> None:
    """They need less scratch memory, and gradients of activations lie where those of the outputs were."""
    pytest.importorskip("numba")
    work = WORKLOADS[name]
    with config.using(compiled="auto"):
        measured(
            work.model().build(work.input_shape, rng=0), optim.Adam(), work.batch
        )  # machine code is no memory of it
        tracemalloc.clear_traces()
        model = work.model().build(work.input_shape, rng=0)
        predicted = model.summary().training_memory(work.batch)
        scratch = COMPILED * cores.threads_allowed()  # which some threads have kept from before
        found = measured(model, optim.Adam(), work.batch)
        assert 0.85 * (predicted.total - scratch) < found < 1.15 * predicted.total


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 1e-4}, {"clip_norm": 1.0, "l1": 1e-4}, {"clip_value": 1.0}])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw",
                                  "lion", "lamb", "amsgrad"])  # fmt: skip
def test_every_optimizer(name, settings) -> None:
    own = {"amsgrad": True} if name == "amsgrad" else {}
    optimizer = optim.by_name("adam" if own else name, lr=0.001, **settings, **own)
    model = Sequential(Dense(1000), Dense(10)).build((100,), rng=0)  # weights, next to no activations
    predicted = model.summary().training_memory(1, optimizer)
    assert predicted.gradients == predicted.parameters == 4 * (101 * 1000 + 1001 * 10)
    blocks = 160_000  # what Adam works in, next to nothing beside the weights of a network
    assert 0.97 * predicted.total < measured(model, optimizer, 1) < 1.05 * predicted.total + blocks


def test_all_optimizers_are_measured() -> None:
    marks = test_every_optimizer.pytestmark
    names = next(m.args[1] for m in marks if m.name == "parametrize" and m.args[0] == "name")
    assert set(names) == {*optim._NAMES, "amsgrad"}


def test_float_types_and_parts() -> None:
    parts = {}
    for dtype in ("float32", "float64"):
        with backend.using("numpy", dtype=dtype):
            parts[dtype] = models.LeNet().build((1, 28, 28)).summary().training_memory(32, "adam")
    single, double = parts["float32"], parts["float64"]
    assert double.parameters == 2 * single.parameters == 8 * 44426
    assert double.activations == 2 * single.activations
    assert single.optimizer_state == 2 * single.parameters
    assert single.total == sum(single)
    lines = str(single).splitlines()
    assert lines[0].split() == ["parameters", "177,704", "bytes"]
    assert lines[-1].split() == ["total", f"{single.total:,}", "bytes"]


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_the_largest_batch_fits_and_the_next_does_not(name, rng) -> None:
    summary = models.by_name(name).summary((3, 32, 32))
    for memory in [*map(int, rng.integers(10**7, 10**10, 5)), "100MB", "3.5GB"]:
        batch = summary.largest_batch(memory)
        limit = memory if isinstance(memory, int) else {"100MB": 100 << 20, "3.5GB": 7 << 29}[memory]
        assert summary.training_memory(batch).total <= limit < summary.training_memory(batch + 1).total
    assert summary.largest_batch(1000) == 0


def test_errors() -> None:
    summary = models.LeNet().summary((1, 28, 28))
    for batch in (0, -1, 2.5):
        with pytest.raises(ValueError, match="batch must be a whole number from 1 on"):
            summary.training_memory(batch)
    with pytest.raises(ValueError, match="no optimizer 'adan'"):
        summary.training_memory(8, "adan")
    with pytest.raises(ValueError, match="expected a size such as '4MB'"):
        summary.largest_batch("much")
