"""Convolutions by cuDNN, without a GPU: what is asked of it, by a stand-in that computes, and of the real front end."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from tests.kernels.emulated_cupy import Emulator, compiler, folder_of_kernels, installed
from tests.kernels.fake_cudnn import FakeCudnn, NotSupportedError, numerical_note
from tests.kernels.test_cupy_emulated import agnostic, compare, lie, random_window
from xpnet import config
from xpnet.kernels.geometry import make_window

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler, or not Linux")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The kernels for CuPy by name."""
    with installed(Emulator(folder_of_kernels(tmp_path_factory))) as kernels:
        yield kernels


@pytest.fixture
def module(own, monkeypatch):
    """xpnet.kernels.cupy.cudnn, which takes the addresses of NumPy's arrays."""
    found = sys.modules["xpnet.kernels.cupy.cudnn"]
    monkeypatch.setattr(found, "_handles", found._Handles())
    caches = found._front_end, found._plan
    for cache in caches:
        cache.cache_clear()
    yield found
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def cudnn(module, monkeypatch):
    fake = FakeCudnn()
    monkeypatch.setattr(module, "_front_end", lambda: fake)
    return fake


def convolve(kernels, x, W, b, dy, window, groups, prefix=""):
    """Everything that there is of a convolution."""
    y = kernels(f"{prefix}conv2d_forward")(x, W, b, window, groups)
    gradients = kernels(f"{prefix}conv2d_backward")(dy, x, W, window, groups, True, True)
    return [y, *gradients, kernels(f"{prefix}conv2d_input_gradient")(dy, W, window, groups)]


def arrays(rng, dtype, N, C, F, groups, window):
    x, W = rng.standard_normal((N, C, *window.input)), rng.standard_normal((F, C // groups, *window.kernel))
    b, dy = rng.standard_normal(F), rng.standard_normal((N, F, *window.output))
    x, W, b, dy = (a.astype(dtype) for a in (x, W, b, dy))
    return lie(rng, x), W, b, lie(rng, dy)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_convolutions_of_random_shapes(own, cudnn, dtype, rng):
    for _ in range(20):
        groups = int(rng.integers(1, 3))
        C, F = (groups * int(rng.integers(1, 4)) for _ in range(2))
        window = random_window(rng, tuple(map(int, rng.integers(1, 9, 2))))
        given = arrays(rng, dtype, int(rng.integers(1, 4)), C, F, groups, window)
        results = [convolve(kernels, *given, window, groups) for kernels in (own.get, agnostic)]
        compare(*results, terms=given[0].size + given[3].size)
    assert {op: cudnn.executed.count(op) for op in set(cudnn.executed)} == {
        "forward": 20, "weight_gradient": 20, "input_gradient": 40
    }  # fmt: skip


def test_depthwise_convolutions(own, cudnn, rng):
    window = make_window("test", (7, 6), 3, (2, 1), 1)
    given = arrays(rng, "float32", 3, 4, 8, 4, window)
    results = [convolve(kernels, *given, window, 4, "depthwise_") for kernels in (own.get, agnostic)]
    compare(*results, terms=100)
    assert cudnn.executed == ["forward", "weight_gradient", "input_gradient", "input_gradient"]
    y = own["conv2d_relu_forward"](*given[:3], window, 4)
    compare([y], [np.maximum(results[1][0], 0)], terms=9)


def test_weights_in_the_middle_of_a_flat_buffer_are_copied_to_a_boundary(own, cudnn, rng):
    window = make_window("test", (5, 5), 3, 1, 0)
    x, W, b, dy = arrays(rng, "float32", 2, 1, 1, 1, window)
    flat = np.zeros(20, np.float32)
    for start in range(4):
        flat[start : start + 9] = W.ravel()
        part = flat[start : start + 9].reshape(W.shape)
        compare([own["conv2d_forward"](x, part, b, window, 1)], [agnostic("conv2d_forward")(x, W, b, window, 1)])


def test_a_graph_is_built_once_for_each_shape_and_setting(own, cudnn, rng):
    window = make_window("test", (5, 5), 3, 1, 1)
    x, W, b, _ = arrays(rng, "float32", 2, 3, 4, 1, window)

    def forward(x=x, window=window):
        own["conv2d_forward"](x, W.astype(x.dtype), None, window, 1)
        return len(cudnn.graphs)

    assert [forward(), forward(), forward(x=x.copy())] == [1, 1, 1]
    assert forward(x=x[:1]) == 2
    assert forward(x=x.astype("float16")) == 3
    assert forward(window=make_window("test", (5, 5), 3, 2, 1)) == 4
    assert forward(window=make_window("test", (5, 5), 3, 1, 0)) == 5
    for number, (name, value) in enumerate(
        {"allow_tf32": True, "deterministic": True, "conv_workspace_gpu": "1MB"}.items(), start=6
    ):
        with config.using(**{name: value}):
            assert [forward(), forward()] == [number, number]
    assert forward() == 8
    assert cudnn.graphs[-1].limit == (1 << 20) + 4 * (x.size + 2 * 4 * 5 * 5)  # the images, which may be turned
    assert len(cudnn.executed) == 14
    assert cudnn.streams == [7]  # told once, since it has not changed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_less_exact_plans_and_those_by_chance_are_refused(own, cudnn, dtype, tf32, deterministic, rng):
    window = make_window("test", (5, 5), 3, 1, 1)
    x, W, b, _ = arrays(rng, dtype, 2, 3, 4, 1, window)
    with config.using(allow_tf32=tf32, deterministic=deterministic):
        own["conv2d_forward"](x, W, b, window, 1)
    refused = cudnn.graphs[0].deselected
    assert {numerical_note.DOWN_CONVERT_INPUTS, numerical_note.REDUCED_PRECISION_REDUCTION} <= refused
    assert (numerical_note.TENSOR_CORE in refused) == (dtype == "float32" and not tf32)
    assert (numerical_note.NONDETERMINISTIC in refused) == deterministic


@pytest.mark.parametrize("error", [NotSupportedError("no engine"), RuntimeError("finalize failed")])
@pytest.mark.parametrize("prefix", ["", "depthwise_"])
def test_what_has_no_plan_is_a_matrix_product(own, cudnn, error, prefix, rng, caplog):
    cudnn.unsupported = error
    window = make_window("test", (5, 5), 3, 2, 1)
    given = arrays(rng, "float64", 2, 3, 3, 3, window)
    caplog.set_level("INFO", "xpnet")
    for _ in range(2):
        results = [convolve(kernels, *given, window, 3, prefix) for kernels in (own.get, agnostic)]
        compare(*results, terms=50)
    assert not cudnn.executed
    assert len(cudnn.graphs) == 3  # not tried again
    assert str(error) in caplog.text


@pytest.mark.parametrize(
    "text", ["CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED"]
)
def test_what_fails_for_now_is_raised_and_tried_again(own, cudnn, text, rng):
    window = make_window("test", (5, 5), 3, 1, 1)
    x, W, b, _ = arrays(rng, "float32", 2, 3, 4, 1, window)
    cudnn.unsupported = RuntimeError(text)
    with pytest.raises(RuntimeError, match=text):
        own["conv2d_forward"](x, W, b, window, 1)
    cudnn.unsupported = None
    compare([own["conv2d_forward"](x, W, b, window, 1)], [agnostic("conv2d_forward")(x, W, b, window, 1)], terms=30)
    assert cudnn.executed == ["forward"]


def test_off(own, cudnn, rng):
    window = make_window("test", (5, 5), 3, 1, 1)
    given = arrays(rng, "float64", 2, 3, 4, 1, window)
    with config.using(cudnn="off"):
        compare(*(convolve(kernels, *given, window, 1) for kernels in (own.get, agnostic)), terms=100)
    assert not cudnn.graphs
    with pytest.raises(ValueError, match="'auto' or 'off'"), config.using(cudnn="on"):
        pass


def test_a_front_end_that_is_missing_or_finds_no_library(module, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not module.is_used()
    assert not caplog.text  # nobody has asked for it
    module._front_end.cache_clear()
    broken = FakeCudnn()
    broken.backend_version = lambda: int("Unable to find symbol cudnnGetVersion")
    monkeypatch.setitem(sys.modules, "cudnn", broken)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: broken if name == "cudnn" else None)
    assert not module.is_used()
    assert "Unable to find symbol" in caplog.text
    module._front_end.cache_clear()
    monkeypatch.setitem(sys.modules, "cudnn", FakeCudnn())
    assert module.is_used()


@pytest.mark.parametrize("operation", ["forward", "input_gradient", "weight_gradient"])
def test_the_real_front_end_takes_the_graphs(module, operation, rng):
    """Every name and argument, and its own inference of shapes; cuDNN itself asks for a GPU only after that."""
    real = pytest.importorskip("cudnn", reason="pip install nvidia-cudnn-frontend")
    try:
        real.backend_version()
    except RuntimeError as error:
        pytest.skip(f"{error}; pip install nvidia-cudnn-cu13")
    for _ in range(10):
        window = random_window(rng, tuple(map(int, rng.integers(1, 9, 2))))
        request = module.Request(
            operation, (2, 4, *window.input), (6, 2, *window.kernel), (2, 6, *window.output), "float32",
            window.padding, window.stride, window.dilation, False, True, 1 << 20, 0,
        )  # fmt: skip
        graph, tensors = module.describe(real, request)
        graph.validate()
        assert [tuple(t.get_dim()) for t in tensors] == [request.x, request.W, request.y]
        N, H, W_ = 2, *window.input
        assert list(tensors[0].get_stride()) == [1, H * W_ * N, W_ * N, N]
    assert len(module._unwanted(real, request)) == 4
    for name in ("build_operation_graph", "create_execution_plans", "deselect_workspace_greater_than", "check_support",
                 "build_plans", "get_workspace_size", "execute"):  # fmt: skip
        assert callable(getattr(graph, name))
    assert callable(real.create_handle)
    assert callable(real.set_stream)
    assert issubclass(real.cudnnGraphNotSupportedError, Exception)
    assert {real.heur_mode.A, real.heur_mode.FALLBACK}
