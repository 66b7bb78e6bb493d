"""The activations beyond the book's for CuPy without a GPU: their CUDA sources give what the agnostic kernels give."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet.functional as F
from tests.functional.test_activation_family import FAMILY
from tests.kernels.comparing import DTYPES, agnostic, compare, kernels_of, lie, needs_compiler, needs_one_process
from xpnet import config

pytestmark = needs_compiler
FUSED = [label for label, (name, *_) in FAMILY.items() if name not in ("tanh", "identity", "affine", "step")]
SHAPES = [(), (9,), (6, 5), (4, 3, 5), (3, 4, 5, 2), (2, 1, 130, 3), (0, 3), (0, 2, 3, 3)]


def values(rng, shape, dtype):
    """Numbers of all sizes, the ends of the exponential's range, what is not finite, and zeros of both signs."""
    a = 5 * rng.standard_normal(shape)
    ends = (0.0, -0.0, 3.0, -3.0, 6.0, 88.5, -88.5, -104.0, 720.0, -720.0, 6e4, -6e4, np.inf, -np.inf, np.nan)
    if a.size > 2 * len(ends):
        a.reshape(-1)[rng.choice(a.size, len(ends), replace=False)] = ends
    return a.astype(dtype)


def slopes(rng, x):
    """Gradients to go with `x`: infinite and NaN where that does not meet a derivative that rounding makes 0."""
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    dy[(abs(x) < 2) & (rng.random(x.shape) < 0.2)] = np.inf
    dy[(abs(x) < 2) & (rng.random(x.shape) < 0.2)] = np.nan
    return dy


def anyhow(rng, a):
    return lie(rng, a) if a.ndim == 4 else np.asfortranarray(a)


@pytest.mark.parametrize("label", FUSED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("on_numpy")
def test_values_and_gradients(emulator, label, dtype, rng):
    """The gradients by the same output: where rounding crosses the end of a piece, they are others."""
    name, options, *_ = FAMILY[label]
    forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
    for shape in SHAPES:
        x = values(rng, shape, dtype)
        x, dy = anyhow(rng, x), anyhow(rng, slopes(rng, x))
        before = x.copy(), dy.copy()
        with np.errstate(all="ignore"):
            with config.using(kernels="agnostic"):
                y, ctx = forward(x, **options)
                dx = backward(dy, ctx)
            with emulator.noting() as launched:
                compare([forward(x, **options)[0], backward(dy, ctx)], [y, dx])
        assert len(launched) == (2 if x.size and name != "exponential" else 1 if x.size else 0)
        np.testing.assert_array_equal((x, dy), before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (2, 3, 5, 4), (300, 3, 8, 9), (0, 3), (2, 3, 2, 3, 2)])
def test_prelu(own, dtype, count, shape, rng):
    """Of 300 images a channel has several parts, whose sums a second launch adds up."""
    slope = rng.standard_normal(count).astype(dtype)
    x, dy = (anyhow(rng, rng.standard_normal(shape).astype(dtype)) for _ in range(2))
    results = [
        [kernels("prelu_forward")(x, slope), *kernels("prelu_backward")(dy, x, slope)]
        for kernels in (own.get, agnostic)
    ]
    compare(*results, terms=max(1, x.size // count))


EXACT = {
    "silu": (lambda x: x / (1 + math.exp(-x)), ()),
    "gelu": (lambda x: x * math.erfc(-x * math.sqrt(0.5)) / 2, ("none",)),
    "mish": (lambda x: x * math.tanh(math.log1p(math.exp(x))), ()),
    "softplus": (lambda x: math.log1p(math.exp(x)), ()),
}


@pytest.mark.parametrize("name", EXACT)
def test_tails_keep_their_digits(own, name):
    """Where they are all but 0, and by differences of 1 would be 0."""
    exact, options = EXACT[name]
    x = np.linspace(-12, -1, 60, dtype=np.float32)
    y = own[f"{name}_forward"](x, *options)
    np.testing.assert_allclose(y, [exact(float(a)) for a in x], rtol=1e-5)


@needs_one_process
def test_every_kernel_has_been_run(emulator):
    assert kernels_of("curves", "gated") <= emulator.launched
