"""Torch's own operations against the standard-only kernels: random windows, ties, memory orders, float types."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xpnet import backend, config
from xpnet import functional as F
from xpnet.errors import OperationError
from xpnet.kernels import find, table
from xpnet.kernels.geometry import make_transposed_window, make_window
from xpnet.testing import assert_close

torch = pytest.importorskip("torch")
table.load("torch")
ORDERS = [(0, 1, 2, 3), (0, 2, 3, 1), (1, 2, 3, 0), (3, 1, 0, 2)]


def kernels(name):
    return table._TABLE["torch", name], table._TABLE["agnostic", name]


def lying(a, order, dtype=torch.float64):
    """Return an array as a tensor whose axes lie in memory in an order."""
    inverse = [order.index(axis) for axis in range(4)]
    return torch.tensor(np.ascontiguousarray(a.transpose(order)), dtype=dtype).permute(inverse)


def random_order(rng):
    return ORDERS[rng.integers(len(ORDERS))]


def random_window(rng, maker, **options):
    """Draw settings until they fit."""
    while True:
        size, kernel = rng.integers(1, 9, 2), rng.integers(1, 4, 2)
        stride, dilation, padding = rng.integers(1, 4, 2), rng.integers(1, 3, 2), rng.integers(0, 3, (2, 2))
        if rng.random() < 0.5:
            padding[:, 1] = padding[:, 0]
        given = [tuple(int(n) for n in a) for a in (size, kernel, stride)]
        pads = tuple(tuple(int(n) for n in p) for p in padding)
        try:
            return maker("test", *given, pads, dilation=tuple(int(n) for n in dilation), **options)
        except OperationError:
            continue


@pytest.mark.parametrize("trial", range(40))
def test_convolution(trial, rng):
    if trial % 2:
        window = random_window(rng, make_window)
    else:
        window = random_window(rng, make_transposed_window, output_padding=int(rng.integers(0, 3)))
    groups, channels, filters = (int(n) for n in rng.integers(1, 4, 3))
    N = int(rng.integers(1, 4))
    x = lying(rng.standard_normal((N, groups * channels, *window.input)), random_order(rng))
    W = lying(rng.standard_normal((groups * filters, channels, *window.kernel)), random_order(rng))
    dy = lying(rng.standard_normal((N, groups * filters, *window.output)), random_order(rng))
    b = torch.tensor(rng.standard_normal(groups * filters))
    need_dx, need_db = rng.random(2) < 0.7
    got, expected = [], []
    for results, which in ((got, 0), (expected, 1)):
        forward, backward, gradient = (kernels(f"conv2d_{n}")[which] for n in ("forward", "backward", "input_gradient"))
        results += [forward(x, W, b, window, groups), forward(x, W, None, window, groups)]
        results += [*backward(dy, x, W, window, groups, need_dx, need_db), gradient(dy, W, window, groups)]
    for a, e in zip(got, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            assert_close(a, backend.to_numpy(e), terms=300)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("trial", range(40))
def test_pooling_with_ties(trial, mode, rng):
    """Few different values, so that most windows have several maxima, minus infinity among them."""
    window = random_window(rng, make_window, ceil_mode=trial % 2 == 0)
    while mode == "max" and 0 in window.tap_counts(0) + window.tap_counts(1):
        window = random_window(rng, make_window, ceil_mode=trial % 2 == 0)  # refused before it gets to a kernel
    include = bool(trial % 4 < 2) or 0 in window.tap_counts(0) + window.tap_counts(1)
    values = rng.integers(0, 3, (2, 3, *window.input)).astype(float)
    if mode == "max":
        values[values == 0.0] = -np.inf
    x = lying(values, random_order(rng))
    dy = lying(rng.standard_normal((2, 3, *window.output)), random_order(rng))
    (forward, own_forward), (backward, own_backward) = kernels("pool2d_forward"), kernels("pool2d_backward")
    y, places = forward(x, window, mode, include)
    expected, nothing = own_forward(x, window, mode, include)
    assert nothing is None
    assert_close(y, backend.to_numpy(expected), terms=9)
    kept = x if mode == "max" else None
    dx = backward(dy, kept, y, places, window, mode, include)
    assert_close(dx, backend.to_numpy(own_backward(dy, kept, expected, None, window, mode, include)), terms=9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_batch_norm(order, train, offset, rng):
    xp = backend.array_namespace(torch.ones(1))
    x = lying(rng.standard_normal((4, 3, 5, 6)) + offset, order)
    dy = lying(rng.standard_normal((4, 3, 5, 6)), random_order(rng))
    gamma, beta = torch.tensor(rng.standard_normal((2, 3)))
    mean, var = torch.tensor(rng.random(3)) + offset, torch.tensor(rng.random(3)) + 0.5
    for rectified in (False, True):
        results = []
        for chosen in ("auto", "agnostic"):
            with config.using(kernels=chosen):
                forward = find("batch_norm_training" if train else "batch_norm_forward", xp)
                backward = find("batch_norm_backward", xp)
                y, m, *more = forward(x, gamma, beta, mean, var, *([0.25] if train else []), 1e-5, rectified)
                arguments = (x, y if rectified else None, gamma, m, more[0] if train else more[1], train)
                results.append([y, m, *more, *backward(dy, *arguments, False), *backward(dy.clone(), *arguments, True)])
        for a, e in zip(*results, strict=True):
            assert_close(a, backend.to_numpy(e), terms=120)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_batch_norm_of_one_image_and_a_gradient_in_another_memory_order(order, rng):
    """The stride of a single image may be anything, and decides for torch which order the image lies in."""
    x, dy, one, zero = rng.standard_normal((1, 3, 5, 6)), rng.standard_normal((1, 3, 5, 6)), np.ones(3), np.zeros(3)
    with config.using(kernels="agnostic"):
        expected = F.batch_norm_backward(dy, F.batch_norm_forward(x, one, zero, zero, one, train=True)[1])
    arguments = [torch.tensor(a) for a in (one, zero, zero, one)]
    _, ctx, *_ = F.batch_norm_forward(lying(x, order), *arguments, train=True)
    for got, wanted in zip(F.batch_norm_backward(torch.tensor(dy), ctx), expected, strict=True):
        assert_close(got, wanted, terms=120)


def test_memory_order_is_kept_from_layer_to_layer(rng):
    """What arrives batch-innermost is channels_last after the first convolution, and stays so, forward and backward."""
    last = torch.channels_last
    x = lying(rng.standard_normal((4, 3, 8, 8)), (1, 2, 3, 0), torch.float32)
    W = torch.tensor(rng.standard_normal((6, 3, 3, 3)), dtype=torch.float32)
    one, zero = torch.ones(6), torch.zeros(6)
    y, conv = F.conv2d_forward(x, W, padding=1)
    normed, norm, _, _ = F.batch_norm_forward(y, one, zero, zero, one, train=True)
    active, relu = F.relu_forward(normed)
    pooled, pool = F.pool2d_forward(active, 2)
    assert all(a.is_contiguous(memory_format=last) for a in (y, normed, active, pooled))
    dy = torch.tensor(rng.standard_normal((4, 6 * 4 * 4)), dtype=torch.float32).reshape(4, 6, 4, 4)
    d_active = F.pool2d_backward(dy, pool)
    d_normed = F.relu_backward(d_active, relu)
    d_y = F.batch_norm_backward(d_normed, norm)[0]
    dx = F.conv2d_backward(d_y, conv)[0]
    assert all(a.is_contiguous(memory_format=last) for a in (d_active, d_normed, d_y, dx))
    assert not any(a.requires_grad for a in (y, normed, active, pooled, dx))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 12])
@pytest.mark.parametrize("kernel, stride, size", [(1, 2, 16), (1, 3, 9), (1, (1, 2), 12), (2, 2, 16), (3, 2, 9)])
def test_gradients_of_few_channels_with_a_stride(channels, kernel, stride, size, rng):
    """oneDNN's weight gradient of 1x1 kernels with a stride is wrong in channels_last."""
    x = torch.tensor(rng.standard_normal((8, channels, size, size)), dtype=torch.float32)
    W = torch.tensor(rng.standard_normal((6, channels, kernel, kernel)), dtype=torch.float32)
    wide, ctx = F.conv2d_forward(x.double(), W.double(), stride=stride)
    dy = torch.tensor(rng.standard_normal(tuple(wide.shape)), dtype=torch.float32)
    expected = F.conv2d_backward(dy.double(), ctx)
    for order in (torch.channels_last, torch.contiguous_format):
        y, ctx = F.conv2d_forward(x.contiguous(memory_format=order), W, stride=stride)
        assert_close(y, backend.to_numpy(wide), terms=108)
        for _ in range(4):
            for got, wanted in zip(
                F.conv2d_backward(dy.contiguous(memory_format=order), ctx)[:2], expected, strict=False
            ):
                assert_close(got, backend.to_numpy(wanted), terms=512)


@pytest.mark.parametrize(
    "size, kernel, stride, padding, dilation",
    [
        ((13, 6), (7, 7), (1, 3), (1, 1), 1),  # one column of the output: of one channel oneDNN makes any numbers
        ((12, 7), (7, 6), (1, 4), (2, 1), 1),
        ((6, 13), (7, 7), (3, 1), (1, 1), 1),
        ((8, 8), (5, 5), (4, 4), (0, 0), 1),
        ((3, 1), (1, 1), (3, 3), (3, 2), 2),  # windows that see padding alone: oneDNN ends the process
        ((16, 1), (1, 1), (2, 4), (3, 3), 2),
        ((8, 1), (2, 2), (1, 4), (3, 3), 2),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_that_onednn_gets_wrong(size, kernel, stride, padding, dilation, channels, transposed, rng):
    window = make_window("test", size, kernel, stride, padding, dilation)
    images = rng.standard_normal((4, channels, *size)), rng.standard_normal((4, 8, *window.output))
    x, dy = (lying(a, (0, 2, 3, 1), torch.float32) for a in (images[::-1] if transposed else images))
    W = lying(rng.standard_normal((8, channels, *kernel)), (0, 2, 3, 1), torch.float32)
    b = torch.tensor(rng.standard_normal(channels if transposed else 8), dtype=torch.float32)
    which = "conv_transpose2d" if transposed else "conv2d"
    forward, backward = getattr(F, f"{which}_forward"), getattr(F, f"{which}_backward")
    axes = zip(size, padding, window.output, stride, kernel, strict=True)
    rest = tuple(n + 2 * p - (o - 1) * s - dilation * (k - 1) - 1 for n, p, o, s, k in axes)
    more = {"output_padding": rest} if transposed else {}
    results = []
    for chosen, dtype in (("auto", torch.float32), ("agnostic", torch.float64)):
        with config.using(kernels=chosen):
            y, ctx = forward(x.to(dtype), W.to(dtype), b.to(dtype), stride, padding, dilation=dilation, **more)
            results.append([y, *backward(dy.to(dtype), ctx)])
    for got, expected in zip(*results, strict=True):
        assert_close(got, backend.to_numpy(expected), terms=8 * 49 * 14)


@pytest.mark.parametrize(
    "size, kernel, stride, padding",
    [((4, 1), (6, 4), (2, 2), (2, 3)), ((3, 3), (4, 3), (1, 4), (2, 2)), ((1, 3), (1, 5), (4, 4), (0, 3))],
)
def test_taps_that_see_padding_alone_have_no_gradient(size, kernel, stride, padding, rng):
    """oneDNN leaves it as it finds it, in bfloat16: fill what it may find."""
    window = make_window("test", size, kernel, stride, padding)
    shapes = (8, 9, *size), (16, 9, *kernel), (8, 16, *window.output)
    x, W, dy = (lying(rng.standard_normal(s), (0, 2, 3, 1), torch.bfloat16) for s in shapes)
    for _ in range(20):
        junk = [torch.full((W.numel(),), np.nan, dtype=torch.bfloat16) for _ in range(20)]
        del junk
        y, ctx = F.conv2d_forward(x, W, stride=stride, padding=padding)
        dW = F.conv2d_backward(dy, ctx)[1].double()
        with config.using(kernels="agnostic"):
            wide = F.conv2d_forward(x.double(), W.double(), stride=stride, padding=padding)[1]
            expected = F.conv2d_backward(dy.double(), wide)[1]
        assert_close(dW, backend.to_numpy(expected), rtol=0.02, terms=8)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_weights_of_one_filter_in_any_memory_order(order, rng):
    """The stride over one filter may be anything; for some torch says that it has no weight gradient."""
    host = [rng.standard_normal(s) for s in ((2, 4, 5, 6), (1, 4, 3, 3), (2, 1, 5, 6))]
    with config.using(kernels="agnostic"):
        expected = F.conv2d_backward(host[2], F.conv2d_forward(*host[:2], padding=1)[1])[:2]
    x, W, dy = lying(host[0], (0, 2, 3, 1)), lying(host[1], order), torch.tensor(host[2])
    for got, wanted in zip(F.conv2d_backward(dy, F.conv2d_forward(x, W, padding=1)[1])[:2], expected, strict=True):
        assert_close(got, wanted, terms=60)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype, rng):
    """The result is that of float32, rounded."""
    window = make_window("test", (6, 5), (3, 3), 2, 1)
    arrays = [rng.standard_normal(s) for s in ((2, 3, 6, 5), (4, 3, 3, 3), (2, 4, *window.output))]
    narrow = [lying(a, (0, 2, 3, 1), dtype) for a in arrays]
    x, W, dy = narrow
    got = [table._TABLE["torch", "conv2d_forward"](x, W, None, window, 1),
           *table._TABLE["torch", "conv2d_backward"](dy, x, W, window, 1, True, True)]  # fmt: skip
    x, W, dy = (a.to(torch.float32) for a in narrow)
    expected = [table._TABLE["agnostic", "conv2d_forward"](x, W, None, window, 1),
                *table._TABLE["agnostic", "conv2d_backward"](dy, x, W, window, 1, True, True)]  # fmt: skip
    for a, e in zip(got, expected, strict=True):
        assert a.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(a.to(torch.float32), e, rtol=4 * eps, atol=4 * eps * float(e.abs().max()))


@pytest.mark.parametrize("name", ["relu", "sigmoid"])
def test_only_layers_that_have_made_an_array_let_it_be_overwritten(name, rng):
    from xpnet.layers import Activation, Dense

    x = torch.tensor(rng.standard_normal((3, 4)), dtype=torch.float32)
    given = x.clone()
    Activation(name)(x)
    layer = Dense(5, activation=name)
    y = layer(x)
    assert torch.equal(x, given)
    plain = x @ layer.W.data + layer.b.data
    torch.testing.assert_close(y, getattr(torch, name)(plain))


def test_an_inference_of_weights_that_autograd_follows(rng):
    from xpnet.layers import BatchNorm, Conv2D, Sequential

    with backend.using("torch", dtype="float64"):
        model = Sequential(Conv2D(3, 2), BatchNorm()).build((2, 4, 4))
    x = torch.tensor(rng.standard_normal((6, 2, 4, 4)))
    expected, W = model.predict(x), model[0].W.data
    W.requires_grad_()
    y = model.predict(x)
    torch.testing.assert_close(y.detach(), expected)
    y.sum().backward()
    pixels = x.unfold(2, 2, 1).unfold(3, 2, 1).sum(dim=(0, 2, 3))  # (C, KH, KW): what each weight was multiplied by
    torch.testing.assert_close(W.grad, pixels.expand(3, -1, -1, -1) / (1.0 + 1e-5) ** 0.5)


@pytest.mark.parametrize("count", [1, 5, 63, 64, 65, 130, 200])
def test_adam_rounds_an_element_alike_wherever_it_stands(count, rng):
    given = torch.from_numpy(rng.random((4, count)).astype("float32"))
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "step": 2}
    update = find("adam_update", torch)
    arrays = [a.clone() for a in given]
    update(*arrays, **settings)
    for n in range(count):
        alone = [a[n : n + 1].repeat(64) for a in given]
        update(*alone, **settings)
        assert [a[n].item() for a in arrays] == [a[0].item() for a in alone]
    assert torch.equal(arrays[1], given[1])
    w, g, m, v = given.double()
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    expected = w - 0.1 * (m / (1 - 0.9**2)) / (torch.sqrt(v / (1 - 0.99**2)) + 1e-3)
    torch.testing.assert_close(arrays[0].double(), expected, rtol=1e-5, atol=1e-6)
