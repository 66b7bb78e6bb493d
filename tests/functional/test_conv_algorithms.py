"""The algorithms of conv2d: each against plain loops, at any workspace; and which one is taken when."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import naive_conv2d, torch_gradients
from xpnet import config
from xpnet.errors import ArgumentError
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.kernels import find, team
from xpnet.kernels.numpy import conv, pool
from xpnet.layers import Conv2D
from xpnet.testing import assert_close

ALGORITHMS = ("auto", "gemm", "winograd")


def arrays(rng, N, C, H, W_, F, dtype="float64"):
    shapes = (N, C, H, W_), (F, C, 3, 3), (F,)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*(st.integers(1, n) for n in (3, 3, 11, 11, 3))),
    padding=st.sampled_from([1, 2, "same", "full", ((1, 2), (3, 1))]),
    workspace=st.sampled_from([1, 3000, 20_000, "4MB"]),
)
def test_winograd_gives_what_loops_give(seed, shape, padding, workspace):
    x, W, b = arrays(np.random.default_rng(seed), *shape)
    with config.using(conv_workspace=workspace):
        y, ctx = conv2d_forward(x, W, b, padding=padding, algorithm="winograd")
        assert ctx.algorithm == "winograd"
        np.testing.assert_allclose(y, naive_conv2d(x, W, b, padding=ctx.window.padding), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gradients_of_every_algorithm(xp, rng, algorithm, padding):
    """With padding 3 the gradient of what lies beyond the image is dropped."""
    x, W, b = arrays(rng, 2, 2, 5, 6, 3)

    def torch_conv(x, W, b):
        import torch.nn.functional as T

        return T.conv2d(x, W, b, 1, padding)

    y, ctx = conv2d_forward(*(xp.asarray(a) for a in (x, W, b)), padding=padding, algorithm=algorithm)
    dy = rng.standard_normal(tuple(y.shape))
    expected_y, expected = torch_gradients(torch_conv, (x, W, b), dy)
    assert_close(y, expected_y, terms=18)
    for got, gradient in zip(conv2d_backward(xp.asarray(dy), ctx), expected, strict=True):
        assert_close(got, gradient, terms=200)


@pytest.mark.parametrize("C, F", [(64, 64), (192, 64)])
def test_winograd_in_float32_is_off_by_little(rng, C, F):
    x, W, b = arrays(rng, 2, C, 12, 9, F)
    y, _ = conv2d_forward(x, W, b, padding=1, algorithm="gemm")
    single, ctx = conv2d_forward(*(a.astype(np.float32) for a in (x, W, b)), padding=1, algorithm="winograd")
    assert ctx.algorithm == "winograd"
    assert single.dtype == np.float32
    assert np.linalg.norm(single - y) < 1e-5 * np.linalg.norm(y)
    dy = rng.standard_normal(y.shape)
    dx = conv2d_backward(dy, ctx._replace(x=x, W=W, algorithm="gemm"))[0]
    dx32 = conv2d_backward(dy.astype(np.float32), ctx)[0]
    assert dx32.dtype == np.float32
    assert np.linalg.norm(dx32 - dx) < 1e-5 * np.linalg.norm(dx)


def test_auto_goes_by_the_shapes_alone():
    def chosen(N, C, H, F, k=3, **options):
        return conv2d_forward(np.ones((N, C, H, H), np.float32), np.ones((F, C // options.get("groups", 1), k, k),
                              np.float32), padding=1, **options)[1].algorithm  # fmt: skip

    with config.using(compiled="off"):
        assert chosen(1, 64, 8, 64) == "winograd"
        assert chosen(1, 63, 8, 64) == chosen(1, 64, 8, 63) == "gemm"  # too few channels
        assert chosen(1, 64, 5, 64) == "gemm"  # 8x8 outputs would be made for 5x5
    assert chosen(1, 128, 8, 128) == "winograd"
    if importlib.util.find_spec("numba"):
        assert chosen(1, 64, 8, 64) == "gemm"  # by loops that are no slower for one image
    assert chosen(1, 64, 8, 64, stride=2) == chosen(1, 64, 8, 64, dilation=2) == chosen(1, 64, 8, 64, k=1) == "gemm"
    assert chosen(1, 64, 8, 64, groups=64) == "direct"
    with config.using(kernels="agnostic"):
        assert chosen(1, 64, 8, 64) == "gemm"


def test_what_an_algorithm_cannot_do_is_refused(xp):
    x, W = xp.asarray(np.ones((1, 2, 5, 5), np.float32)), xp.asarray(np.ones((2, 2, 3, 3), np.float32))
    for options in ({"stride": 2}, {"dilation": 2}):
        with pytest.raises(ArgumentError, match="'winograd' is for 3x3 kernels with stride 1"):
            conv2d_forward(x, W, algorithm="winograd", **options)
    with pytest.raises(ArgumentError, match="'direct' is for groups of one channel, got 2 channels a group"):
        conv2d_forward(x, W, algorithm="direct")
    with pytest.raises(ArgumentError, match=r"algorithm must be one of auto, gemm, winograd, direct, got 'fft'"):
        conv2d_forward(x, W, algorithm="fft")
    with pytest.raises(ArgumentError, match=r"Conv2D: algorithm must be one of .*, got 'fft'"):
        Conv2D(2, 3, algorithm="fft")


def test_direct_for_one_channel(xp, rng):
    x, W = rng.standard_normal((2, 1, 5, 4)), rng.standard_normal((3, 1, 3, 2))
    y, _ = conv2d_forward(xp.asarray(x), xp.asarray(W), algorithm="direct")
    assert_close(y, naive_conv2d(x, W), terms=6)


def test_the_layer_passes_its_algorithm_on(rng):
    x = rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    layers = [Conv2D(4, 3, algorithm=name).build((3, 6, 6), rng=1) for name in ALGORITHMS]
    outputs = [layer.forward(x) for layer in layers]
    assert [layer._pending[0][1][0].algorithm for layer in layers] == ["gemm", "gemm", "winograd"]
    np.testing.assert_allclose(outputs[2], outputs[1], atol=1e-4)
    assert repr(layers[2]) == "Conv2D(filters=4, kernel_size=(3, 3), algorithm='winograd')"


# --- the blocks of NumPy's kernels ----------------------------------------------------------------


@pytest.mark.parametrize("N, step", [(64, 128), (96, 192), (1, 512)])
def test_products_in_pieces_are_the_product(rng, N, step):
    """The pieces of a product with few filters join to the whole, into a block of a larger array."""
    F, K, L = 16, 150, 512 if N != 96 else 768
    W, columns, out = rng.standard_normal((F, K)), rng.standard_normal((K, L)), np.zeros((F, 3, L))
    assert F * K * L > conv.SMALL_PRODUCT
    conv._multiply(W, columns[None], out[:, 1][None])
    np.testing.assert_allclose(out[:, 1], W @ columns, atol=1e-11)
    assert not out[:, [0, 2]].any()


def test_channels_come_in_blocks_without_gap(monkeypatch):
    monkeypatch.setattr(pool, "BLOCK", 100)
    monkeypatch.setattr(team, "PART", 1)
    monkeypatch.setattr(pool, "threads_allowed", lambda: 3)
    for C, bytes_per_channel in ((7, 48), (3, 800), (1, 8)):
        x = np.zeros((C, bytes_per_channel // 8))
        parts: list[slice] = []
        pool.by_channels(parts.append, x)
        assert sorted(c for part in parts for c in range(C)[part]) == list(range(C))
        assert all(x[part].nbytes <= 100 or part.stop - part.start == 1 for part in parts)


@pytest.mark.parametrize("stride, size, kernel", [(2, (4, 6), 2), (2, (5, 7), 2), (3, (8, 9), 2), (1, (3, 3), 1)])
def test_pooling_and_norm_in_small_blocks(rng, monkeypatch, stride, size, kernel):
    """Windows that tile the image, leave rows at the end, or leave gaps; blocks of one or two channels."""
    from xpnet.functional import batch_norm_backward, batch_norm_forward, pool2d_backward, pool2d_forward

    monkeypatch.setattr(pool, "BLOCK", 2 * 8 * 3 * size[0] * size[1])
    x = rng.integers(0, 4, (3, 5, *size)).astype(np.float64)  # many ties
    results = []
    for kernels in ("auto", "agnostic"):
        with config.using(kernels=kernels):
            made = []
            for mode in ("max", "average"):
                y, ctx = pool2d_forward(x, kernel, stride, mode=mode)
                dy = np.arange(float(y.size)).reshape(y.shape)
                made += [y, pool2d_backward(dy, ctx)]
            for train in (True, False):
                options = (np.arange(1.0, 6.0), np.ones(5), np.zeros(5), np.ones(5))
                y, ctx, *running = batch_norm_forward(x, *options, train=train)
                made += [y, *running, *batch_norm_backward(np.cos(x), ctx)]
            results.append(made)
    for got, expected in zip(*results, strict=True):
        assert_close(got, expected, terms=3 * size[0] * size[1])


def test_adam_in_blocks(rng, monkeypatch):
    from xpnet.kernels.agnostic import optim as agnostic
    from xpnet.kernels.numpy import optim

    monkeypatch.setattr(optim, "BLOCK", 10)
    for lr in (0.1, rng.random(33)):
        states = []
        given = [rng.standard_normal(33) for _ in range(2)] + [rng.random(33) for _ in range(2)]
        for module in (optim, agnostic):
            w, g, m, v = (a.copy() for a in given)
            module.adam_update(w, g, m, v, lr=lr, beta1=0.9, beta2=0.99, eps=1e-3, step=2)
            states.append((w, m, v))
            np.testing.assert_array_equal(g, given[1])
        for got, expected in zip(*states, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("shape", [(5, 4, 3, 7), (64, 16, 4, 8)], ids=["few images", "rows whole pages apart"])
def test_a_1x1_kernel_is_a_product_of_channels(shape, threads, stride, dtype, close, monkeypatch, rng):
    monkeypatch.setattr(conv, "threads_worth", lambda work: threads)
    (N, C, *size), F = shape, 14
    x, W, b, dy = (rng.standard_normal(s).astype(dtype) for s in (shape, (F, C, 1, 1), (F,), (N, F, *size)))
    every = (slice(None), slice(None), slice(None, None, stride[0]), slice(None, None, stride[1]))
    dy = dy[every]
    expected = np.einsum("nchw,fc->nfhw", x[every], W[:, :, 0, 0]) + b[:, None, None]
    y, ctx = conv2d_forward(x, W, b, stride)
    np.testing.assert_allclose(y, expected, atol=10 * close)
    rectified = find("conv2d_relu_forward", np)(x, W, b, ctx.window, 1)
    np.testing.assert_allclose(rectified, np.maximum(expected, 0.0), atol=10 * close)
    dx, dW, db = conv2d_backward(dy, ctx)
    expected_dx = np.zeros_like(x)
    expected_dx[every] = np.einsum("nfhw,fc->nchw", dy, W[:, :, 0, 0])
    np.testing.assert_allclose(dx, expected_dx, atol=10 * close)
    np.testing.assert_allclose(dW[:, :, 0, 0], np.einsum("nfhw,nchw->fc", dy, x[every]), atol=100 * close)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), atol=100 * close)
    assert {a.dtype for a in (y, rectified, dx, dW, db)} == {np.dtype(dtype)}
