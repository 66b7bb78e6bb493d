"""Every kernel registered for one library gives what the agnostic one gives, on arguments of all kinds."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.operations import CASES, Case
from xpnet import backend, config
from xpnet.kernels import find, registered, table
from xpnet.kernels.agnostic.norm import Normalised
from xpnet.kernels.compiled import loader
from xpnet.kernels.geometry import make_window
from xpnet.testing import assert_close

for _library in ("compiled", "numpy", "torch", "cupy"):
    with contextlib.suppress(ImportError):
        table.load(_library)
FASTER = [(library, name) for library, name in registered() if library != "agnostic"]

BESIDE_OPERATIONS = {
    "add_product", "clip_by_norm", "count_correct", "decay_gradient", "decay_weights", "gather_batch", "narrow_weights",
    "square_sum", "to_float", "widen_weights",
}  # fmt: skip


@pytest.fixture(autouse=True)
def compiled_kernels(request, monkeypatch):
    """Compiled kernels in the tests of the library "compiled", for work of any size, and in no others."""
    ours = request.node.callspec.params.get("library") == "compiled" if hasattr(request.node, "callspec") else False
    if ours:
        pytest.importorskip("numba")
        monkeypatch.setattr(loader, "SMALL", 0)
    with config.using(compiled="auto" if ours else "off"):
        yield


def namespace(library):
    try:
        with backend.using(backend_of(library)) as chosen:
            return chosen.xp
    except backend.BackendUnavailableError as error:
        pytest.skip(f"{library}: {error}")


def backend_of(library):
    return "numpy" if library == "compiled" else library


def host_arguments(name, rng):
    """Yield arguments of a kernel, float64 on the host; none where whole operations exercise it."""
    normal = rng.standard_normal
    if name == "matmul_into":
        yield (normal((3, 7)), normal((3, 5)), normal((5, 7))), {}
        yield (normal((3, 20))[:, 4:11], normal((3, 5)), normal((7, 5)).T), {}
        yield (normal((1, 1)), normal((1, 1)), normal((1, 1))), {}
    if name == "matmul":
        yield (normal((3, 5)), normal((5, 7))), {}
        yield (normal((40, 5)).T, normal((3, 80))[:, ::2].T), {}
        yield (normal((4, 3, 5)), normal((4, 7, 5)).swapaxes(1, 2)), {}
    if name in ("add", "add_relu"):
        yield (normal((3, 2, 4, 5)), normal((2, 4, 5, 3)).transpose(3, 0, 1, 2)), {"overwrite": False}
        yield (normal((3, 4)), normal((3, 4))), {"overwrite": False}
    if name == "row_dots":
        yield (normal((3, 4, 5)), normal((3, 4, 5))), {}
        yield (normal((2, 3, 4, 5))[:, 1:, ::2, :], normal((2, 2, 2, 5))), {}
    if name == "erf":
        yield (normal((3, 7)) * 3.0,), {}
    if name.endswith("_update"):  # weights, gradient, state (never negative), and numbers by their names
        parameters = inspect.signature(table._TABLE["agnostic", name]).parameters.values()
        arrays = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        numbers = {p.name: 3 if p.name == "step" else 0.3 for p in parameters if p.kind is p.KEYWORD_ONLY}
        yield (normal(33), normal(33), *(rng.random(33) for _ in arrays[2:])), numbers


@pytest.mark.parametrize("library, name", FASTER)
def test_signature_is_that_of_the_agnostic_kernel(library, name):
    own, agnostic = table._TABLE[library, name], table._TABLE["agnostic", name]
    parameters = [
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (own, agnostic)
    ]
    assert parameters[0] == parameters[1]


@pytest.mark.parametrize("library, name", FASTER)
def test_writes_what_the_agnostic_kernel_writes(library, name, rng):
    xp = namespace(library)
    with backend.using(backend_of(library)):
        for arguments, numbers in host_arguments(name, rng):
            results = []
            for kernels in ("auto", "agnostic"):
                given = [backend.asarray(a, copy=True) if isinstance(a, np.ndarray) else a for a in arguments]
                with config.using(kernels=kernels):
                    returned = find(name, xp)(*given, **numbers)
                returned = returned if isinstance(returned, tuple) else (returned,)
                results.append([a for a in (*given, *returned) if a is not None])
            for got, expected in zip(*results, strict=True):
                assert_close(got, backend.to_numpy(expected), terms=5)


@pytest.mark.parametrize("library", sorted({library for library, _ in FASTER}))
@pytest.mark.parametrize("name", ["relu_backward", "sigmoid_backward", "tanh_backward", "relu_bias_backward"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (5, 7), (3, 2, 4), (1, 1, 1, 1)])
def test_gradients_written_over_dy(library, name, shape, rng):
    xp = namespace(library)
    host = rng.standard_normal(shape), rng.standard_normal(shape)
    rest = (True,) if name == "relu_bias_backward" else ()
    with backend.using(backend_of(library)):
        for order in ((0, 1, 2, 3), (1, 2, 3, 0), (0, 2, 3, 1)) if len(shape) == 4 else (tuple(range(len(shape))),):
            inverse = tuple(order.index(axis) for axis in range(len(order)))
            dy, y = (xp.permute_dims(backend.asarray(a.transpose(order).copy("C")), inverse) for a in host)
            got = find(name, xp)(dy, y, *rest, True)
            expected = table._TABLE["agnostic", name](*map(backend.asarray, host), *rest, False)
            for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, expected)), strict=True):
                if one is not None:  # a sum that the library leaves for later
                    assert_close(one, backend.to_numpy(other), terms=5)
            np.testing.assert_array_equal(backend.to_numpy(y), host[1])


@pytest.mark.parametrize("library", sorted({library for library, _ in FASTER}))
@pytest.mark.parametrize("name", ["add", "add_relu"])
@pytest.mark.parametrize("orders", [((0, 1, 2, 3), (1, 2, 3, 0)), ((1, 2, 3, 0), (0, 2, 3, 1)), ((0, 1),) * 2])
def test_sums_written_over_the_first(library, name, orders, rng):
    xp = namespace(library)
    host = [rng.standard_normal((4, 3, 5, 2)[: len(orders[0])]) for _ in orders]
    with backend.using(backend_of(library)):
        a, b = (
            xp.permute_dims(backend.asarray(h.transpose(order).copy("C")), tuple(np.argsort(order).tolist()))
            for h, order in zip(host, orders, strict=True)
        )
        y = find(name, xp)(a, b, True)
        total = host[0] + host[1]
        assert_close(y, np.maximum(total, 0.0) if name == "add_relu" else total)
        np.testing.assert_array_equal(backend.to_numpy(b), host[1])


@pytest.mark.parametrize("library", sorted({library for library, _ in FASTER}))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations_by_either_kernels(library, case: Case, rng):
    namespace(library)
    host = case.make(rng)
    dy = rng.standard_normal(np.shape(case.forward(*host)[0]))
    results = []
    with backend.using(backend_of(library)):
        for kernels in ("auto", "agnostic"):
            with config.using(kernels=kernels):
                y, ctx, *more = case.forward(*(None if a is None else backend.asarray(a) for a in host))
                results.append([y, *more, *case.backward(backend.asarray(dy), ctx)])
    for got, expected in zip(*results, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            assert_close(got, backend.to_numpy(expected), terms=case.terms)


@pytest.mark.parametrize("library", sorted({library for library, name in FASTER if name == "add_all"}))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_add_all(library, dtype, rng):
    """Whatever the sizes and the orders in memory; float16 is added as one number to another."""
    shapes = [(3,), (1,), (40, 30), (5, 3, 2, 2)] * 50
    host = rng.standard_normal((2, sum(map(math.prod, shapes)))).astype(dtype)
    ends = np.cumsum([0, *map(math.prod, shapes)])
    parts = [[row[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)] for row in host]
    with backend.using(backend_of(library), dtype=dtype) as chosen:
        flat = backend.asarray(host[0], copy=True)
        sums = [flat[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]
        terms = [backend.asarray(part) for part in parts[1]]
        turned = [chosen.xp.permute_dims(backend.asarray(part.T.copy()), (3, 2, 1, 0)) for part in parts[1][3::4]]
        terms[3::4] = turned
        find("add_all", chosen.xp)(sums, terms)
        np.testing.assert_array_equal(backend.to_numpy(flat), host[0] + host[1])


def test_normalised_weights(xp, rng):
    """Of several pairs at once, each with or without bias, gamma and beta, and with means far from 0."""
    pairs, expected = [], []
    for n, (b, gamma, beta) in enumerate(itertools.product((False, True), repeat=3)):
        F, eps = 1 + n, 10.0**-n
        W, mean, var = rng.standard_normal((F, 3, 2, 1)), rng.standard_normal(F), rng.random(F) + 0.1
        b, gamma, beta = (rng.standard_normal(F) if given else None for given in (b, gamma, beta))
        if n in (2, 7):
            mean[-1] = -1000.0
            expected.append(None)
        else:
            scale = (1.0 if gamma is None else gamma) / np.sqrt(var + eps)
            shift = ((0.0 if b is None else b) - mean) * scale + (0.0 if beta is None else beta)
            expected.append((W * scale[:, None, None, None], shift))
        arrays = (None if a is None else xp.asarray(a, "float64") for a in (W, b, gamma, beta, mean, var))
        pairs.append(Normalised(*arrays, eps))
    for some in (slice(0, 2), slice(None)):  # without and with one far from 0
        got = find("normalised_weights", xp.xp)(pairs[some])
        assert [one is None for one in got] == [one is None for one in expected[some]]
        for made, wanted in zip(got, expected[some], strict=True):
            for array, values in zip(made or (), wanted or (), strict=True):
                assert_close(array, values, terms=5)


@pytest.mark.parametrize("library, name", FASTER)
def test_every_kernel_is_reached_by_a_case(library, name, rng, monkeypatch):
    """Else the comparisons above would compare nothing."""
    namespace(library)
    if name.endswith("_update") or name in ("add", "add_relu") or (library, name) == ("cupy", "erf"):
        pytest.skip("compared by its arguments alone")
    if name in BESIDE_OPERATIONS:
        pytest.skip("no part of an operation: compared by the tests of the loader, the metrics and the optimizers")
    if name in ("image_order", "weight_order", "bytes_to_wait"):
        pytest.skip("a preference: nothing to compare")
    if name in ("add_all", "normalised_weights"):
        pytest.skip("compared in a test of its own")
    called = []
    kernel = table._TABLE[library, name]
    monkeypatch.setitem(table._TABLE, (library, name), lambda *a, **k: (called.append(1), kernel(*a, **k))[1])
    with backend.using(backend_of(library)), config.using(kernels="auto"):
        for case in CASES:
            y, ctx, *_ = case.forward(*(None if a is None else backend.asarray(a) for a in case.make(rng)))
            case.backward(backend.asarray(np.ones(tuple(y.shape))), ctx)
    assert called, f"no case of tests/operations.py reaches kernel {name!r} of {library}"


def test_agnostic_turns_the_others_off():
    xp = namespace("numpy")
    with config.using(kernels="agnostic"):
        for _, name in registered():
            assert find(name, xp) is table._TABLE["agnostic", name]
    with config.using(kernels="auto"):
        assert find("matmul_into", xp) is table._TABLE["numpy", "matmul_into"]


def test_a_kernel_without_an_agnostic_version_is_refused():
    with pytest.raises(ValueError, match="kernel 'nonesuch' of numpy has no agnostic version to be checked against"):
        table.register("numpy", "nonesuch")(lambda: None)
    assert ("numpy", "nonesuch") not in registered()


def test_kernels_of_a_library_are_imported_with_its_first_arrays():
    """Importing xpnet imports no torch; the first torch array brings in torch's kernels."""
    pytest.importorskip("torch")
    code = (
        "import sys, xpnet, xpnet.functional as F\n"
        "from xpnet.kernels import registered\n"
        "assert 'torch' not in sys.modules and ('torch', 'erf') not in registered()\n"
        "import torch\n"
        "F.gelu_forward(torch.ones(3))\n"
        "assert ('torch', 'erf') in registered()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_without_kernels_uses_the_agnostic_ones():
    xp = namespace("array_api_strict")
    with config.using(kernels="auto"):
        assert find("erf", xp) is table._TABLE["agnostic", "erf"]
    for name in ("nonesuch", "none.such"):
        table.load(name)
    assert "nonesuch" not in {library for library, _ in registered()}


@pytest.mark.parametrize("name", ["jax.numpy", "array_api_compat.dask.array", "mine.torch", "compat.cupy"])
def test_kernels_go_by_the_whole_name_of_a_library(name, monkeypatch):
    """Those of NumPy write into arrays that jax.numpy does not let write."""
    library, other = types.ModuleType(name), types.ModuleType("numpy")
    with config.using(kernels="auto", compiled="off"):
        assert find("conv2d_forward", library) is table._TABLE["agnostic", "conv2d_forward"]
        for xp in (np, namespace("numpy"), other):
            assert find("conv2d_forward", xp) is table._TABLE["numpy", "conv2d_forward"]
        monkeypatch.setitem(table._TABLE, (name, "conv2d_forward"), other)
        assert find("conv2d_forward", library) is other


@pytest.mark.parametrize("dtype, ulps", [("float64", 8), ("float32", 6)])
def test_error_function(xp, dtype, ulps, rng):
    """Against the C library: a few units of the last place at all sizes, odd, 1 at the end."""
    x = np.concatenate([rng.uniform(-6.5, 6.5, 500), 10.0 ** rng.uniform(-30, 0, 200)])
    x = np.concatenate([x, [0.0, 1e3, -1e3, 1e30, -1e30, np.inf, -np.inf, np.nan]]).astype(dtype)
    expected = np.array([math.erf(v) for v in x]).astype(dtype)
    kernel = table._TABLE["agnostic", "erf"]
    given = xp.asarray(x)
    got = xp.to_numpy(kernel(given))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=ulps * np.finfo(dtype).eps, atol=0)
    np.testing.assert_array_equal(xp.to_numpy(given), x)


def test_taps_of_a_window_by_hand():
    """3 pixels, kernel 2, stride 2, one pixel of padding on the left: outputs read (-, 0) and (1, 2)."""
    window = make_window("test", (1, 3), (1, 2), 2, ((0, 0), (1, 0)))
    assert window.output == (1, 2)
    first, second = window.taps()
    assert (first.out_columns, first.in_columns) == (slice(1, 2), slice(1, 2, 2))
    assert (second.out_columns, second.in_columns) == (slice(0, 2), slice(0, 3, 2))
    assert window.tap_counts(1) == [1, 2]
    assert not window.is_pointwise


@pytest.mark.parametrize("stride, padding, multiplier", [(1, 1, 1), (2, "same", 2), ((3, 1), 0, 3)])
@pytest.mark.parametrize("workspace", [1, 3000, "4MB"])
def test_depthwise_kernels_give_what_the_general_ones_give(xp, stride, padding, multiplier, workspace, rng):
    """Tap by tap in blocks of any size, or by columns."""
    window = make_window("test", (7, 6), (3, 2), stride, padding)
    x, W = xp.asarray(rng.standard_normal((2, 3, 7, 6))), xp.asarray(rng.standard_normal((3 * multiplier, 1, 3, 2)))
    b, dy = (
        xp.asarray(rng.standard_normal(shape)) for shape in ((3 * multiplier,), (2, 3 * multiplier, *window.output))
    )
    results = []
    for prefix in ("", "depthwise_"):
        kernels = {
            n: table._TABLE["agnostic", f"{prefix}conv2d_{n}"] for n in ("forward", "backward", "input_gradient")
        }
        with config.using(conv_workspace=workspace, kernels="agnostic"):
            y = kernels["forward"](x, W, b, window, 3)
            assert tuple(kernels["forward"](x, W, None, window, 3).shape) == tuple(y.shape)
            gradients = kernels["backward"](dy, x, W, window, 3, True, True)
            assert kernels["backward"](dy, x, W, window, 3, False, False)[::2] == (None, None)
            results.append([y, *gradients, kernels["input_gradient"](dy, W, window, 3)])
    for got, expected in zip(*results, strict=True):
        assert_close(got, xp.to_numpy(expected), terms=84)


@pytest.mark.parametrize("dtype, rtol", [("float16", 6e-4), ("bfloat16", 5e-3)])
@pytest.mark.parametrize("stride, workspace", [(1, "4MB"), (2, "4MB"), (1, 3000)])
@pytest.mark.parametrize("library", ["agnostic", "numpy"])
def test_depthwise_kernels_add_up_half_floats_in_float32(library, dtype, rtol, stride, workspace, rng):
    """25 taps to a pixel, with little more than one rounding."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), dtype) if dtype == "bfloat16" else dtype)
    window = make_window("test", (9, 8), 5, stride, 2)
    shapes = (3, 4, 9, 8), (8, 1, 5, 5), (3, 8, *window.output)
    x, W, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    results = []
    for prefix, given in (("depthwise_", (x, W, dy)), ("", (a.astype("float64") for a in (x, W, dy)))):
        own = library if prefix else "agnostic"
        forward, backward = (
            table._TABLE.get((own, name), table._TABLE["agnostic", name])
            for name in (f"{prefix}conv2d_forward", f"{prefix}conv2d_backward")
        )
        a, b, c = given
        with config.using(conv_workspace=workspace, kernels="auto" if own == "numpy" else "agnostic"):
            results.append([forward(a, b, None, window, 4), *backward(c, a, b, window, 4, True, False)[:2]])
    for got, expected in zip(*results, strict=True):
        assert got.dtype == dtype
        assert_close(got.astype("float64"), expected, rtol=rtol)


@pytest.mark.parametrize("library", ["agnostic", "numpy"])
def test_products_of_half_floats_do_not_overflow(library):
    large = np.full((2, 5), 300, np.float16)
    assert table._TABLE[library, "row_dots"](large, large).tolist() == [450000, 450000]


def test_weights_choose_the_depthwise_kernels():
    """One channel to a group, and no more than two filters for it: beyond that a matrix product is faster."""
    from xpnet.functional.conv import kernel_name

    assert kernel_name("conv2d_forward", np.ones((4, 1, 3, 3)), 4) == "depthwise_conv2d_forward"
    assert kernel_name("conv2d_forward", np.ones((8, 1, 3, 3)), 4) == "depthwise_conv2d_forward"
    for F, C, groups in ((12, 1, 4), (4, 1, 1), (4, 2, 2)):
        assert kernel_name("conv2d_forward", np.ones((F, C, 3, 3)), groups) == "conv2d_forward"
