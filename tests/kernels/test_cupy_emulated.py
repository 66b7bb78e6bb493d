"""The kernels for CuPy without a GPU: their CUDA sources, run on the CPU, give what the agnostic kernels give.

Evidence of what they compute, none of how they behave on a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import itertools
import sys

import numpy as np
import pytest

from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process
from tests.kernels.emulated_cupy import folder_of_kernels
from tests.kernels.fake_cupy import Array, Complete, complete
from tests.operations import CASES, Case
from xpnet import backend, config
from xpnet.errors import ArrayMismatchError
from xpnet.kernels import cuda, find
from xpnet.kernels.geometry import make_window
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Pool2D, ReLU, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import Adam, DynamicLossScale
from xpnet.random import keep_mask
from xpnet.testing import assert_close
from xpnet.training import train_step

pytestmark = needs_compiler


def test_signatures(own):
    assert {"conv2d_forward", "pool2d_backward", "batch_norm_forward", "dropout_forward", "adam_update", "add"} <= set(
        own
    )
    for name, function in own.items():
        parameters = [
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (function, agnostic(name))
        ]
        assert parameters[0] == parameters[1], name


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("on_numpy")
def test_operations(case: Case, rng):
    host = case.make(rng)
    dy = rng.standard_normal(np.shape(case.forward(*host)[0]))
    results = []
    for kernels in ("auto", "agnostic"):
        with config.using(kernels=kernels):
            y, ctx, *more = case.forward(*host)
            results.append([y, *more, *case.backward(dy, ctx)])
    compare(*results, terms=case.terms)


def random_window(rng, size):
    """A window of random geometry that fits images of a size."""
    while True:
        kernel = rng.integers(1, 5, 2)
        stride, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        padding = [[int(p) for p in rng.integers(0, k, 2)] for k in kernel]
        extent = dilation * (kernel - 1) + 1
        if all(e <= n + sum(p) for e, n, p in zip(extent, size, padding, strict=True)):
            return make_window("test", size, *(list(map(int, a)) for a in (kernel, stride)), padding,
                               list(map(int, dilation)))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workspace", ["256MB", "600"])
def test_convolutions_of_random_shapes(own, dtype, workspace, rng):
    for _ in range(12):
        N, groups, size = int(rng.integers(1, 4)), int(rng.integers(1, 3)), tuple(map(int, rng.integers(1, 9, 2)))
        C, F = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        window = random_window(rng, size)
        x, W = rng.standard_normal((N, C, *size)), rng.standard_normal((F, C // groups, *window.kernel))
        b, dy = rng.standard_normal(F), rng.standard_normal((N, F, *window.output))
        x, W, b, dy = (a.astype(dtype) for a in (x, W, b, dy))
        x, dy = lie(rng, x), lie(rng, dy)
        results = []
        with config.using(conv_workspace_gpu=workspace):
            for kernels in (own, {name: agnostic(name) for name in own}):
                y = kernels["conv2d_forward"](x, W, b, window, groups)
                gradients = kernels["conv2d_backward"](dy, x, W, window, groups, True, True)
                results.append([y, *gradients, kernels["conv2d_input_gradient"](dy, W, window, groups)])
                assert kernels["conv2d_backward"](dy, x, W, window, groups, False, False)[::2] == (None, None)
        compare(*results, terms=x.size + dy.size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workspace", ["256MB", "600"])
def test_convolutions_with_relu(own, dtype, workspace, rng):
    for bias in (True, False):
        window = make_window("test", (7, 6), 3, (2, 1), 1)
        x, W = lie(rng, rng.standard_normal((3, 2, 7, 6)).astype(dtype)), rng.standard_normal((4, 2, 3, 3))
        b = rng.standard_normal(4).astype(dtype) if bias else None
        with config.using(conv_workspace_gpu=workspace):
            results = [
                [kernels("conv2d_relu_forward")(x, W.astype(dtype), b, window, 1)] for kernels in (own.get, agnostic)
            ]
        compare(*results, terms=18)
        assert results[0][0].min() == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_depthwise_convolutions_of_random_shapes(own, dtype, rng):
    """The last is large enough for the sums of its weight gradient to be cut into parts."""
    for large in [*[False] * 12, True]:
        N, C, m = (int(rng.integers(1, 4)) for _ in range(3))
        size = tuple(map(int, rng.integers(1, 9, 2)))
        window = random_window(rng, size)
        if large:
            N, window = 70, make_window("test", (17, 16), 3, 1, 1)
        x, W = rng.standard_normal((N, C, *window.input)), rng.standard_normal((m * C, 1, *window.kernel))
        b, dy = rng.standard_normal(m * C), rng.standard_normal((N, m * C, *window.output))
        x, W, b, dy = (a.astype(dtype) for a in (x, W, b, dy))
        x, dy = lie(rng, x), lie(rng, dy)
        results = []
        for kernels in (own, {name: agnostic(name) for name in own}):
            y = kernels["depthwise_conv2d_forward"](x, W, b, window, C)
            rectified = kernels["depthwise_conv2d_relu_forward"](x, W, None, window, C)
            gradients = kernels["depthwise_conv2d_backward"](dy, x, W, window, C, True, True)
            alone = kernels["depthwise_conv2d_input_gradient"](dy, W, window, C)
            assert kernels["depthwise_conv2d_backward"](dy, x, W, window, C, False, False)[::2] == (None, None)
            results.append([y, rectified, *gradients, alone])
        compare(*results, terms=x.size + dy.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_products_with_relu(own, dtype, rng):
    for N, inputs, outputs in ((5, 7, 3), (300, 2, 1), (1, 1, 40)):
        x, W = (rng.standard_normal(shape).astype(dtype) for shape in ((inputs, N), (inputs, outputs)))
        for b in (rng.standard_normal(outputs).astype(dtype), None):
            for name in ("linear_forward", "linear_relu_forward"):
                compare(*([kernels(name)(x.T, W, b)] for kernels in (own.get, agnostic)), terms=inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1), (1, 5, 3, 7), (1, 17, 40, 70), (3, 2, 9, 4), (1, 6, 900, 25), (2, 30, 300, 33), (1, 70, 0, 66),
        (1, 65, 16, 65), (1, 4, 8, 0),
    ],
)  # fmt: skip
def test_products_that_can_be_recorded(own, dtype, shape, rng):
    """Of every orientation and of slices; in parts where there are few tiles and many terms."""
    product = inspect.getmodule(own["matmul"]).capturable_product
    G, M, K, N = shape
    for _ in range(4):
        a, b = lying_anyhow(rng, (G, M, K), dtype), lying_anyhow(rng, (G, K, N), dtype)
        if G == 1 and rng.random() < 0.5:
            a, b = a[0], b[0]
        got = product(a, b)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        assert got.dtype == dtype
        assert got.flags.c_contiguous
        assert_close(got, exact, terms=max(1, K))


@pytest.mark.parametrize("name, M, N", [("flat", 40, 150), ("small", 130, 70), ("large", 150, 300)])
def test_every_tile_gives_the_same(own, monkeypatch, name, M, N, rng):
    matmul = inspect.getmodule(own["matmul"])
    monkeypatch.setattr(matmul, "_tile", lambda *size: name)
    a, b = rng.standard_normal((M, 37)), rng.standard_normal((37, N))
    assert_close(matmul.capturable_product(a, b), a @ b, terms=37)
    assert_close(matmul.capturable_product(b.T, a.T), b.T @ a.T, terms=37)


def test_parts_cover_all_terms_and_no_more(own, rng):
    matmul = inspect.getmodule(own["matmul"])
    for _ in range(500):
        tiles, K = int(rng.integers(1, 300)), int(rng.integers(0, 100000))
        part, parts = matmul._parts(tiles, K)
        assert part % matmul.STEP == 0
        assert (parts - 1) * part < max(1, K) <= parts * part
        assert parts == 1 or (tiles * parts <= matmul.BLOCKS and part >= matmul.LEAST_PART)
    assert {matmul._tile(*size) for size in ((6, 50000), (64, 120), (2048, 1024))} == {"flat", "small", "large"}


def lying_anyhow(rng, shape, dtype):
    """Random matrices (G, M, K), rows or columns beside each other, or every third element."""
    order = rng.permutation(3)
    a = rng.standard_normal([shape[i] * 3 for i in order]).astype(dtype)
    whole = a.transpose(np.argsort(order))
    starts = [slice(None, size) if rng.random() < 0.5 else slice(None, 3 * size, 3) for size in shape]
    return whole[tuple(starts)]


def values_to_pass(rng, shape, dtype):
    """Numbers of both signs, zeros, and what is not finite."""
    a = rng.standard_normal(shape).astype(dtype)
    for value in (0.0, -0.0, np.inf, -np.inf, np.nan):
        a[tuple(rng.integers(0, shape))] = value
    return a


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9,), (6, 5), (4, 3, 5), (3, 4, 5, 2), (2, 1, 130, 70)])
def test_activations(own, dtype, shape, rng):
    """Of images in every order, infinite ones and NaN too; overwritten only where that is allowed."""
    for name in ("relu", "sigmoid", "tanh"):
        x = values_to_pass(rng, shape, dtype)
        x = lie(rng, x) if len(shape) == 4 else x
        if name != "tanh":
            before, forward = x.copy(), own[f"{name}_forward"]
            expected = agnostic(f"{name}_forward")(x, False)
            compare([forward(x, False)], [expected])
            np.testing.assert_array_equal(x, before)
            compare([forward(x, True)], [expected])
        y = np.tanh(rng.standard_normal(shape)).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        dy = lie(rng, dy) if len(shape) == 4 else np.asfortranarray(dy)
        expected, before, backward = agnostic(f"{name}_backward")(dy, y, False), dy.copy(), own[f"{name}_backward"]
        compare([backward(dy, y, False)], [expected])
        np.testing.assert_array_equal(dy, before)
        compare([backward(dy, y, True)], [expected])
    with np.errstate(invalid="ignore"):
        dy = values_to_pass(rng, shape, dtype)
        results = [[*kernels("relu_bias_backward")(dy.copy(), y, False, True)] for kernels in (own.get, agnostic)]
        compare(*results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 5), (300, 2), (1, 3), (4, 3, 5), (3, 4, 5, 2), (2, 1, 130, 70), (1, 2, 1, 1)])
def test_relu_with_the_gradient_of_its_bias(own, emulator, dtype, shape, rng):
    """A channel of 18200 elements is two parts, whose sums a second launch adds up."""
    y, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    for order in (np.ascontiguousarray, np.asfortranarray, lambda a: lie(rng, a) if a.ndim == 4 else a):
        results = [[*kernels("relu_bias_backward")(order(dy), y, True, False)] for kernels in (own.get, agnostic)]
        compare(*results, terms=dy.size)


@pytest.mark.parametrize("overwrite", [False, True])
def test_sums_of_branches_lie_as_images_do(own, overwrite, rng):
    a, b = (lie(rng, rng.standard_normal((3, 4, 5, 2))) for _ in range(2))
    compare([own["add_relu"](a.copy("K"), b, overwrite)], [agnostic("add_relu")(a, b, False)])
    sum_of_all, sum_of_first = a + b, a[0] + b[0]
    np.testing.assert_array_equal(own["add"](a[0].copy(), b[0], overwrite), sum_of_first)
    total = own["add"](a, b, overwrite)
    np.testing.assert_array_equal(total, sum_of_all)
    assert total.transpose(1, 2, 3, 0).flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["max", "average"])
def test_pooling_of_random_shapes_and_with_ties(own, dtype, mode, rng):
    for _ in range(12):
        N, C, size = int(rng.integers(1, 4)), int(rng.integers(1, 4)), tuple(map(int, rng.integers(2, 9, 2)))
        window = random_window(rng, size)
        if min(window.tap_counts(0)) == 0 or min(window.tap_counts(1)) == 0:
            continue  # a window of padding alone: the operation refuses it
        x = lie(rng, rng.integers(-2, 3, (N, C, *size)).astype(dtype))
        dy = lie(rng, rng.standard_normal((N, C, *window.output)).astype(dtype))
        for pad in (True, False):
            results = []
            for forward, backward in [
                [kernels(f"pool2d_{way}") for way in ("forward", "backward")] for kernels in (own.get, agnostic)
            ]:
                y, places = forward(x, window, mode, pad)
                results.append([y, backward(dy, x if mode == "max" else None, y, places, window, mode, pad)])
            compare(*results, terms=16)


@pytest.mark.parametrize("mode", ["max", "average"])
def test_pooling_windows_that_overhang(own, mode, rng):
    window = make_window("test", (5, 6), 3, 2, 1, ceil_mode=True)
    assert window.overhangs
    x, dy = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((2, 2, *window.output))
    x[0, 0, 2, 2] = np.nan
    results = []
    for kernels in (own.get, agnostic):
        y, places = kernels("pool2d_forward")(x, window, mode, True)
        results.append([y, kernels("pool2d_backward")(dy, x if mode == "max" else None, y, places, window, mode, True)])
    compare(*results)
    assert np.isnan(results[0][0][0, 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5), (40, 2, 17, 13), (1, 1, 1, 2)])
def test_batch_norm(own, dtype, shape, rng):
    C = shape[1]
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    x += 3  # not centred
    gamma, beta = (rng.standard_normal(C).astype(dtype) for _ in range(2))
    wide = "float32" if dtype == "float16" else dtype
    running = rng.standard_normal(C).astype(wide), (rng.random(C) + 0.5).astype(wide)
    for scales in ((gamma, beta), (None, None)):
        for statistics, relu in itertools.product(((None, None), running), (False, True)):
            results = []
            for kernels in (own.get, agnostic):
                y, mean, var, inv_std = kernels("batch_norm_forward")(x, *scales, *statistics, 1e-5, relu)
                if not results:
                    output = y if relu else None  # of one of the two, since rounding may cross 0
                arguments = dy, x, output, scales[0], mean, inv_std, statistics[0] is None, False
                results.append([y, mean, var, inv_std, *kernels("batch_norm_backward")(*arguments)])
            compare(*results, terms=4 * x.size // C)
    batch = rng.standard_normal(C).astype(wide), rng.random(C).astype(wide)
    compare(*(kernels("running_statistics")(*batch, *running, 0.1, 1.5) for kernels in (own.get, agnostic)))


def test_batch_norm_far_from_zero(own, rng):
    """Rows of one part and of several, means of 1e3 to 1e5 times the spread: y shows no rounding of the mean."""
    for mean, spread, shape in ((1e3, 1.0, (100, 2, 11, 10)), (1e4, 0.1, (100, 2, 11, 10)), (-1e4, 0.1, (7, 2, 3, 5))):
        x = (mean + spread * rng.standard_normal(shape)).astype(np.float32)
        y, middle, var, _ = own["batch_norm_forward"](x, None, None, None, None, 0.0, False)
        wide = x.astype(np.float64)
        expected = wide.mean((0, 2, 3)), wide.var((0, 2, 3))
        np.testing.assert_allclose(middle, expected[0], rtol=1.2e-7)
        np.testing.assert_allclose(var, expected[1], rtol=1e-5)
        centred = wide - expected[0].reshape(1, 2, 1, 1)
        assert_close(y, centred / np.sqrt(expected[1]).reshape(1, 2, 1, 1), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_all(own, dtype, rng):
    """More than one launch holds, of all sizes, some of which lie with gaps, and of two types."""
    shapes = [(3,), (1,), (0,), (70, 600), (4, 3, 2, 2), (5, 6)] + [(7,)] * 150
    sums = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    terms = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    terms[3] = np.asfortranarray(terms[3])
    sums.append(rng.standard_normal(9)), terms.append(rng.standard_normal(9))
    expected = [a + b for a, b in zip(sums, terms, strict=True)]
    own["add_all"](sums, terms)
    compare(sums, expected)


@pytest.mark.parametrize("shape", [(7,), (4, 6), (5, 16), (3, 2, 4, 5), (9, 1, 2, 4), (2, 3, 1, 1), (0, 3), ()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_masks_are_those_of_numpy(own, dtype, shape, rng):
    for rate, words in ((0.5, (3, 2, 1)), (0.1, (2**64 - 1, 2**63, 2**40)), (0.75, (0, 0, 0))):
        x = rng.standard_normal(shape).astype(dtype)
        x = lie(rng, x) if x.ndim == 4 else x
        y, mask = own["dropout_forward"](x, rate, *words, 1 / (1 - rate))
        np.testing.assert_array_equal(mask, keep_mask(shape, rate, *words))
        expected, _ = agnostic("dropout_forward")(x, rate, *words, 1 / (1 - rate))
        compare([y, own["dropout_backward"](x, mask, 2.0)], [expected, agnostic("dropout_backward")(x, mask, 2.0)])


def test_dropout_by_numbers_in_memory(own, rng):
    """The seed and the step of a recorded step; more numbers than one launch takes."""
    numbers = importlib.import_module("xpnet.kernels.cupy.graph").Numbers(70)
    values = [int(n) for n in rng.integers(0, 2**63, 69)] + [0.1]
    values[3], values[68] = 2**64 - 1, 7
    numbers.set(values)
    assert [*(int(numbers.whole(i)) for i in range(69)), float(numbers.real(69))] == values
    x = rng.standard_normal((3, 40))
    _, mask = own["dropout_forward"](x, 0.5, numbers.whole(3), 1, numbers.whole(68), 2.0)
    np.testing.assert_array_equal(mask, keep_mask(x.shape, 0.5, values[3], 1, values[68]))


@pytest.mark.usefixtures("on_numpy")
def test_steps_in_float16(rng):
    """Three updates with a loss scale; the kernels for CuPy against the agnostic ones."""
    x, t = rng.standard_normal((6, 1, 8, 8)).astype(np.float16), rng.integers(0, 3, 6)
    results = []
    for kernels in ("auto", "agnostic"):
        with config.using(kernels=kernels), backend.using("numpy", dtype="float16"):
            model = Sequential(Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(3)).build((1, 8, 8), rng=1)
            optimizer, scale = Adam(), DynamicLossScale(2.0**10)
            for _ in range(3):
                train_step(model, SoftmaxCrossEntropy(), optimizer, x, t, loss_scale=scale)
            assert (scale.steps, scale.skipped) == (3, 0)
            results.append([p.data.astype(np.float32) for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=4e-3)


@pytest.mark.usefixtures("on_numpy")
def test_training_steps(rng):
    """Three updates of a small network: the same weights by either kernels, dropout's masks included."""
    x, t = rng.standard_normal((6, 1, 8, 8)), rng.integers(0, 3, 6)
    results = []
    for kernels in ("auto", "agnostic"):
        with config.using(kernels=kernels), backend.using("numpy", dtype="float64"):
            layers = Conv2D(3, 3, padding=1), BatchNorm(), ReLU(), Pool2D(2), Dropout(0.3), Flatten(), Dense(3)
            model, loss, optimizer = Sequential(*layers).build((1, 8, 8), rng=1), SoftmaxCrossEntropy(), Adam()
            losses = [train_step(model, loss, optimizer, x, t) for _ in range(3)]
            results.append([*losses, *(p.data for p in model.parameters()), model.predict(x)])
    for got, expected in zip(*results, strict=True):
        assert_close(got, expected, terms=1000)


def test_wide_indices_give_the_same(own, emulator, monkeypatch, rng):
    """64-bit indices, which else only arrays of 2^30 elements have."""
    launch = inspect.getmodule(own["conv2d_forward"])
    x, W = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 3))
    window = make_window("test", (6, 5), 3, 1, 1)
    expected = own["conv2d_forward"](x, W, None, window, 1)
    asked = []
    monkeypatch.setattr(launch, "is_wide", lambda size: asked.append(size) or True)
    np.testing.assert_array_equal(own["conv2d_forward"](x, W, None, window, 1), expected)
    assert asked


def launches_of_all_kinds(own):
    """Functions with arguments: each way that there is to a launch, cuBLAS and, at the end, cuDNN."""
    x, W = (backend.asarray(np.ones(shape), dtype="float32") for shape in ((2, 4, 5, 5), (4, 4, 3, 3)))
    b, rows = W[:, 0, 0, 0], x[:, :, 0, 0]
    yield own["relu_forward"], (rows, False)
    yield own["softmax_cross_entropy_forward"], (rows, rows)
    yield own["relu_bias_backward"], (rows, rows, True, False)
    yield own["batch_norm_forward"], (x, b, b, None, None, 1e-5, False)
    yield own["matmul"], (rows, rows.T)
    for size in (1, 3):
        yield own["conv2d_forward"], (x, W[:, :, :size, :size], b, make_window("test", (5, 5), size, 1, 0), 1)
    yield own["conv2d_forward"], (x, W[:, :2], b, make_window("test", (5, 5), 3, 1, 0), 2)
    cudnn = sys.modules["xpnet.kernels.cupy.cudnn"]
    yield lambda *given: cudnn._run("forward", *given), (x, W, x, make_window("test", (5, 5), 3, 1, 1))


def test_arrays_of_another_gpu_than_the_current_one_are_refused(tmp_path_factory, monkeypatch):
    with complete(Complete(folder_of_kernels(tmp_path_factory))) as own, backend.using("cupy", dtype="float32"):
        runtime = sys.modules["cupy"].cuda.runtime
        runtime.getDeviceCount = lambda: 2
        monkeypatch.setattr(Array, "gpu", 1)
        for function, arguments in launches_of_all_kinds(own):
            with pytest.raises(ArrayMismatchError, match=r"on GPU 1, .* works on GPU 0; .*backend.use\('cupy:1'\)"):
                function(*arguments)
        runtime.getDevice = lambda: 1
        for function, arguments in [*launches_of_all_kinds(own)][:-1]:
            function(*arguments)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_to_16_bits(emulator, dtype):
    """Half of cuda_on_cpu.h against NumPy's; BFloat16, the source's own, against the neighbours of each number."""
    every = np.arange(1 << 16, dtype=np.uint16)  # all numbers of the type, by their bits
    wide = every.view(np.float16).astype(np.float32) if dtype == "float16" else (every.astype("<u4") << 16).view("<f4")
    library = emulator.library(cuda.code("dropout", dtype, False))
    product = np.empty_like(every)
    scale = np.float64(np.float32(1 / 3))
    keep, size = np.ones(every.size, bool), np.int64(every.size)
    values = [np.array([a.ctypes.data], np.uintp) for a in (every, keep, product)] + [
        np.array([size]),
        np.array([scale]),
    ]
    library.run_dropout_backward((ctypes.c_void_p * 5)(*(v.ctypes.data for v in values)), 256, 1, 256)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = wide * np.float32(scale)
        if dtype == "float16":
            expected = exact.astype(np.float16)
            np.testing.assert_array_equal(product.view(np.float16), expected)
            return
    got = (product.astype("<u4") << 16).view("<f4")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wide))
    finite = np.isfinite(exact)
    for direction in (-1, 1):  # neither neighbour is nearer
        neighbour = ((product.astype(np.int64) + direction).clip(0, 65535).astype("<u4") << 16).view("<f4")
        with np.errstate(invalid="ignore", over="ignore"):
            nearer = np.abs(neighbour.astype(float) - exact) < np.abs(got.astype(float) - exact)
        assert not nearer[finite].any()


@pytest.mark.usefixtures("on_numpy")
def test_find_finds_them():
    assert find("conv2d_forward", np).__module__ == "xpnet.kernels.cupy.conv"


APART = {"bin_pool", "clip", "curves", "gated", "group_norm", "lamb", "optim"}  # have tests in files of their own


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of(*set(cuda.SOURCES) - APART) <= emulator.launched
