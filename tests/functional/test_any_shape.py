"""Dense product, flatten, batch norm, softmax, dropout and the plain losses against torch, on shapes drawn at random.

The other operations have such a test in the file of their family.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet.functional as F
from tests.reference import torch_gradients

PRECISION = pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 3e-5)])
SIZES = st.integers(1, 9)
SEEDS = st.integers(0, 2**32)


def torch():
    return pytest.importorskip("torch", reason="torch is the oracle here")


def close(got, expected, rtol) -> None:
    """Compare, with errors measured against the largest element."""
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * scale)


def check(forward, backward, oracle, arrays, rtol, rng) -> None:
    """Compare the output and all gradients of an operation with torch's."""
    y, ctx, *_ = forward(*arrays)
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    expected, gradients = torch_gradients(oracle, arrays, dy)
    close(y, expected.astype(y.dtype), rtol)
    got = backward(dy, ctx)
    for mine, theirs in zip(got if isinstance(got, tuple) else (got,), gradients, strict=True):
        close(mine, theirs.astype(mine.dtype), rtol)


@PRECISION
@given(n=SIZES, i=SIZES, o=SIZES, seed=SEEDS)
@settings(max_examples=40)
def test_linear(dtype, rtol, n, i, o, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((n, i), (i, o), (o,))]
    check(F.linear_forward, F.linear_backward, lambda x, W, b: x @ W + b, arrays, rtol, rng)


@PRECISION
@given(shape=st.lists(SIZES, min_size=2, max_size=5), seed=SEEDS)
@settings(max_examples=25)
def test_flatten(dtype, rtol, shape, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    check(F.flatten_forward, F.flatten_backward, lambda x: x.flatten(1), [x], rtol, rng)


@PRECISION
@given(n=st.integers(2, 6), c=SIZES, size=st.one_of(st.just(()), st.tuples(SIZES, SIZES)), seed=SEEDS)
@settings(max_examples=40)
def test_batch_norm_in_training(dtype, rtol, n, c, size, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((n, c, *size)).astype(dtype) * 2 + 1]
    arrays += [rng.standard_normal(c).astype(dtype) for _ in range(2)]
    mean, var = np.zeros(c, dtype), np.ones(c, dtype)

    def oracle(x, gamma, beta):
        return torch().nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-2)

    def forward(x, gamma, beta):
        return F.batch_norm_forward(x, gamma, beta, mean, var, train=True, eps=1e-2)

    check(forward, F.batch_norm_backward, oracle, arrays, rtol, rng)


@PRECISION
@given(shape=st.lists(SIZES, min_size=1, max_size=4), data=st.data(), seed=SEEDS)
@settings(max_examples=40)
def test_softmax(dtype, rtol, shape, data, seed):
    rng = np.random.default_rng(seed)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = rng.standard_normal(shape).astype(dtype) * 4
    for name in ("softmax", "log_softmax"):
        forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
        check(lambda x: forward(x, axis=axis), backward, lambda x: getattr(x, name)(axis), [x], rtol, rng)


@PRECISION
@given(n=SIZES, k=SIZES, smoothing=st.sampled_from([0.0, 0.1, 0.5]), seed=SEEDS)
@settings(max_examples=40)
def test_softmax_cross_entropy(dtype, rtol, n, k, smoothing, seed):
    rng = np.random.default_rng(seed)
    z, t = rng.standard_normal((n, k)).astype(dtype) * 5, rng.integers(0, k, n)

    def oracle(z):
        return torch().nn.functional.cross_entropy(z, torch().tensor(t), label_smoothing=smoothing)

    def forward(z):
        return F.softmax_cross_entropy_forward(z, t, label_smoothing=smoothing)

    check(forward, F.softmax_cross_entropy_backward, oracle, [z], rtol, rng)


@PRECISION
@given(shape=st.lists(SIZES, min_size=1, max_size=4), seed=SEEDS)
@settings(max_examples=40)
def test_mean_squared_error(dtype, rtol, shape, seed):
    rng = np.random.default_rng(seed)
    y, t = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    mse = lambda y: torch().nn.functional.mse_loss(y, torch().tensor(t))
    check(lambda y: F.mean_squared_error_forward(y, t), F.mean_squared_error_backward, mse, [y], rtol, rng)
    half = lambda y: ((y - torch().tensor(t)) ** 2).sum() / (2 * shape[0])
    forward = lambda y: F.mean_squared_error_forward(y, t, reduction="half_sum")
    check(forward, F.mean_squared_error_backward, half, [y], rtol, rng)


@PRECISION
@given(shape=st.lists(SIZES, min_size=1, max_size=4), rate=st.sampled_from([0.0, 0.3, 0.9]), seed=SEEDS)
@settings(max_examples=25)
def test_dropout_with_its_own_mask(dtype, rtol, shape, rate, seed):
    from xpnet.random import keep_mask

    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    factor = torch().tensor(keep_mask(shape, rate, seed, 1, 2) / (1.0 - rate))
    forward = lambda x: F.dropout_forward(x, rate=rate, seed=seed, stream=1, step=2)
    check(forward, F.dropout_backward, lambda x: x * factor.to(x.dtype), [x], rtol, rng)
