"""When memory runs out: the error names the layer and a batch that fits, and the model goes on as if nothing had been.

Memory is said to run out where a test wants it, in the words of each library.
"""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import pytest

from xpnet import backend, config
from xpnet.backend import limits
from xpnet.backend.memory import DeviceMemory, device_memory, host_memory, is_out_of_memory
from xpnet.errors import NonFiniteError, OutOfMemoryError, StateError
from xpnet.layers import Conv2D, Dense, Flatten, Layer, Residual, Sequential, shortage
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import SGD, Adam
from xpnet.training import Trainer, evaluate, train_step
from xpnet.training.progress import ProgressBar, memory_use


def of_cupy(text):
    """An error as cupy.cuda.memory.OutOfMemoryError is one."""
    kind = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    return kind(text)


def of_torch(text):
    torch = pytest.importorskip("torch")
    return torch.OutOfMemoryError(text)


ERRORS = {
    "numpy": lambda: np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")),
    "python": MemoryError,
    "cupy": lambda: of_cupy("Out of memory allocating 4,294,967,296 bytes (allocated so far: 1,024 bytes)."),
    "torch": lambda: of_torch("CUDA out of memory. Tried to allocate 4.00 GiB.\nSee the documentation"),
    "torch on the CPU": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 TB"),
    "cublas": lambda: RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    "cudnn": lambda: RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
}


class Greedy(Layer):
    """Does nothing, and raises once, in forward or backward."""

    def __init__(self):
        super().__init__()
        self.when, self.error = None, None

    def _fail(self, when):
        if self.when == when:
            self.when = None
            raise self.error

    def _forward(self, x, train):
        self._fail("forward")
        return x * 1.0, None

    def _backward(self, dy, ctx, need_dx):
        self._fail("backward")
        return dy * 1.0


def model_of():
    body = Sequential({"greedy": Greedy(), "conv": Conv2D(2, 3, padding=1)})
    return Sequential({"first": Conv2D(2, 3), "block": Residual(body), "flat": Flatten(), "last": Dense(3)}).build(
        (1, 6, 6), rng=0
    )


def greedy(model):
    return next(layer for _, layer in model.named_layers() if isinstance(layer, Greedy))


@pytest.fixture
def batch(xp, rng):
    return xp.asarray(rng.standard_normal((8, 1, 6, 6)).astype("f4")), xp.asarray(rng.integers(0, 3, 8))


@pytest.fixture(autouse=True)
def _known_memory(monkeypatch):
    monkeypatch.setattr("xpnet.layers.shortage.host_memory", lambda: 20_000)
    monkeypatch.setattr(limits, "_in_use", [])


# --- the error -----------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ERRORS)
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_it_names_the_layer_and_the_model_goes_on(xp, batch, library, when):
    """The weights after it are those of a run in which it did not happen, bit for bit."""
    whole, broken = model_of(), model_of()
    optimizers, loss = (SGD(0.1), SGD(0.1)), SoftmaxCrossEntropy()
    for step in range(3):
        train_step(whole, loss, optimizers[0], *batch)
        if step == 1:
            greedy(broken).when, greedy(broken).error = when, ERRORS[library]()
            with pytest.raises(OutOfMemoryError) as caught:
                train_step(broken, loss, optimizers[1], *batch)
            text = str(caught.value)
            assert re.match(r'Greedy \(layer "block\.(body\.)?greedy"\): out of memory in ' + when, text)
            assert f"{'x' if when == 'forward' else 'dy'} (8, 2, 4, 4) float32" in text
            assert isinstance(caught.value, MemoryError)
            assert not any(layer._pending for _, layer in broken.named_layers())
        train_step(broken, loss, optimizers[1], *batch)
    for a, b in zip(whole.parameters(), broken.parameters(), strict=True):
        assert np.array_equal(xp.to_numpy(a.data), xp.to_numpy(b.data))


def test_the_library_s_own_words_are_kept(batch):
    model = model_of()
    greedy(model).when, greedy(model).error = "forward", ERRORS["cupy"]()
    with pytest.raises(
        OutOfMemoryError, match=r"\(Out of memory allocating 4,294,967,296 bytes .*\); take fewer samples"
    ):
        model.predict(batch[0])


def test_other_errors_pass_as_they_are(batch):
    model = model_of()
    for error in (RuntimeError("something else"), StateError("x", "out of memory of what was said"), KeyError("x")):
        greedy(model).when, greedy(model).error = "forward", error
        with pytest.raises(type(error)) as caught:
            train_step(model, SoftmaxCrossEntropy(), SGD(), *batch)
        assert caught.value is error
    assert not is_out_of_memory(NonFiniteError("x", "y"))


def fits(text):
    return int(re.search(r"; batch_size=(\d+) should fit, or micro_batch=\1 to learn", text)[1])


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_the_batch_that_fits_is_the_largest_predicted(monkeypatch, batch, samples):
    model, optimizer = model_of(), Adam()
    summary = model.summary()
    room = summary.training_memory(samples, optimizer).total
    monkeypatch.setattr("xpnet.layers.shortage._room", lambda model: room)
    greedy(model).when, greedy(model).error = "backward", MemoryError()
    with pytest.raises(OutOfMemoryError) as caught:
        train_step(model, SoftmaxCrossEntropy(), optimizer, batch[0], batch[1])
    assert fits(str(caught.value)) == samples
    assert (
        f"a step of 8 samples is predicted to take {summary.training_memory(8, optimizer).total / 1024:.1f} KB"
        in str(caught.value)
    )


def test_a_step_that_should_have_fitted_is_halved(monkeypatch, batch):
    monkeypatch.setattr("xpnet.layers.shortage.host_memory", lambda: 1 << 40)
    model = model_of()
    greedy(model).when, greedy(model).error = "backward", MemoryError()
    trainer = Trainer(model, batch_size=8, micro_batch=6)
    with pytest.raises(OutOfMemoryError) as caught:
        trainer.fit((np.array(backend.to_numpy(batch[0])), np.array(backend.to_numpy(batch[1]))), verbose=False)
    assert fits(str(caught.value)) == 3
    assert "a step of 6 samples" in str(caught.value)


def test_not_one_sample_fits(monkeypatch, batch):
    monkeypatch.setattr("xpnet.layers.shortage._room", lambda model: 100)
    model = model_of()
    greedy(model).when, greedy(model).error = "forward", MemoryError()
    with pytest.raises(OutOfMemoryError, match="not one sample fits; take a smaller model or image"):
        train_step(model, SoftmaxCrossEntropy(), SGD(), *batch)


def test_memory_that_runs_out_in_loss_and_update(batch, monkeypatch):
    model, loss, optimizer = model_of(), SoftmaxCrossEntropy(), SGD()
    for owner, name in ((loss, "forward"), (optimizer, "_clip")):
        with monkeypatch.context() as patch:

            def fail(*args):
                raise MemoryError("no more")

            patch.setattr(owner, name, fail)
            with pytest.raises(
                OutOfMemoryError, match=r"^training step: out of memory in a step \(no more\); .*batch_size"
            ):
                train_step(model, loss, optimizer, *batch)
        assert not any(layer._pending for _, layer in model.named_layers())
        train_step(model, loss, optimizer, *batch)


def test_evaluation_names_the_layer(batch):
    model = model_of()
    greedy(model).when, greedy(model).error = "forward", MemoryError()
    with pytest.raises(OutOfMemoryError, match=r'layer "block\.'):
        evaluate(model, batch)


def test_the_room_is_that_of_the_model_s_place(xp, monkeypatch):
    """On a GPU the pool's limit, less the columns of convolutions, which are many there."""
    model = model_of()
    on_host = backend.is_on_host(model.parameters()[0].data)
    assert xp.name == "cupy" or shortage._room(model) == (20_000 if on_host else None)
    monkeypatch.setattr(shortage, "device_memory", lambda xp, device: DeviceMemory(5, 1 << 30))
    assert shortage._room(model) == 1 << 30
    with config.using(conv_workspace_gpu="1MB"):
        monkeypatch.setattr(shortage.backend, "array_namespace", lambda a: types.SimpleNamespace(__name__="x.cupy"))
        assert shortage._room(model) == (1 << 30) - (1 << 20)


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_really_too_large(library, needs_backend):
    """The libraries themselves are asked for a petabyte."""
    needs_backend(library)
    with backend.using(library) as chosen:
        model = Sequential({"wide": Dense(4)}).build((2,))
        x = chosen.xp.broadcast_to(backend.asarray(1.0), (1 << 47, 2))
        with pytest.raises(OutOfMemoryError, match=r'Dense \(layer "wide"\): out of memory in forward of x '):
            model.predict(x)


def test_what_this_machine_has():
    found = host_memory()
    assert found is None or found > 1 << 26


# --- a GPU's memory ------------------------------------------------------------------------------


class FakePool:
    def __init__(self):
        self.limit, self.used, self.held = 0, 3 << 30, 4 << 30

    def set_limit(self, size):
        self.limit = size

    def get_limit(self):
        return self.limit

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.held


class FakeDevice:
    def __init__(self, index=0):
        self.index = index

    def use(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def pool(monkeypatch):
    """CuPy on a GPU of 40 GB, of which 30 are free and 4 are held by the pool."""
    pool, cupy, namespace = FakePool(), types.ModuleType("cupy"), types.ModuleType("array_api_compat.cupy")
    runtime = types.SimpleNamespace(memGetInfo=lambda: (30 << 30, 40 << 30), getDeviceCount=lambda: 1)
    cupy.is_available, cupy.get_default_memory_pool = lambda: True, lambda: pool
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=FakeDevice)
    cupy._core = types.SimpleNamespace(set_compute_type=lambda *args: None)
    namespace.empty, namespace.float32 = np.empty, np.float32
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    monkeypatch.setattr("array_api_compat.cupy", namespace, raising=False)
    monkeypatch.setattr(backend.selection, "LOADERS", dict(backend.selection.LOADERS))
    monkeypatch.setattr(backend.namespaces, "_NAMESPACES", dict(backend.namespaces._NAMESPACES))
    return pool


def test_the_limit_reaches_cupy(pool):
    chosen = backend.use("cupy")
    assert pool.limit == 0
    assert device_memory(chosen.xp, chosen.device) == DeviceMemory(3 << 30, 34 << 30)
    with config.using(gpu_memory_limit="8GB"):
        assert pool.limit == 8 << 30
        assert device_memory(chosen.xp, chosen.device) == DeviceMemory(3 << 30, 8 << 30)
        config.set(gpu_memory_limit="50%")
        assert pool.limit == 20 << 30
    assert pool.limit == 0


def test_the_limit_of_the_environment_is_set_when_cupy_is_chosen(pool, monkeypatch):
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.setenv("XPNET_GPU_MEMORY_LIMIT", "25%")
    backend.use("cupy")
    assert pool.limit == 10 << 30


def test_without_a_setting_cupy_s_own_limit_stands(pool):
    pool.limit = 5
    backend.use("cupy")
    assert pool.limit == 5


def test_the_limit_reaches_torch(monkeypatch):
    torch = pytest.importorskip("torch")
    fractions = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda f, device: fractions.append(f))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 << 30, 40 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 << 30)
    device = torch.device("cuda:0")
    limits.limit_memory("torch", device)
    assert fractions == []
    import array_api_compat.torch as xp

    with config.using(gpu_memory_limit="10GB"):
        limits.limit_memory("torch", device)
        assert fractions == [0.25, 0.25]
        assert device_memory(xp, device) == DeviceMemory(3 << 30, 10 << 30)
    assert fractions[-1] == 1.0
    assert device_memory(xp, device) == DeviceMemory(3 << 30, 34 << 30)


@pytest.mark.parametrize("wrong", ["0%", "101%", "much", "-1GB", 0, "%"])
def test_wrong_limits(wrong):
    with pytest.raises(ValueError, match="gpu_memory_limit: expected a s"):
        config.set(gpu_memory_limit=wrong)
    assert config.get("gpu_memory_limit") is None


def test_the_bar_shows_what_the_arrays_take(pool, monkeypatch):
    with backend.using("numpy"):
        assert memory_use() == ""
    with backend.using("cupy"):
        assert memory_use() == "3.0 GB of 34.0 GB"
    shown = []
    bar = ProgressBar("epoch", 3, show=False)
    bar._bar = types.SimpleNamespace(set_postfix_str=shown.append)
    bar.show(types.SimpleNamespace(loss=1.0, accuracy=None), 10.0, "", "3.0 GB of 34.0 GB")
    assert shown == ["loss 1.0000  10 images/s  3.0 GB of 34.0 GB"]
