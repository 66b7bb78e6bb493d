"""Layer, group, instance and local response normalisation: loops, torch, large means, half floats, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet.functional as F
from tests.reference import naive_group_norm, naive_local_response_norm, torch_gradients
from xpnet.errors import ArgumentError, DTypeError, ShapeError
from xpnet.testing import assert_close

NORMS = ("layer_norm", "group_norm", "instance_norm")


def arguments(op, shape, rng, affine=True):
    scales = shape[1:] if op == "layer_norm" else shape[1:2]
    gamma, beta = (rng.standard_normal(scales), rng.standard_normal(scales)) if affine else (None, None)
    return [rng.standard_normal(shape) * 2 + 1, gamma, beta]


def on(xp, host, dtype="float64"):
    return [None if a is None else xp.asarray(a, dtype) for a in host]


def groups_of(op, shape, groups):
    return {"layer_norm": 1, "group_norm": groups, "instance_norm": shape[1]}[op]


def run(op, arrays, **options):
    return getattr(F, f"{op}_forward")(*arrays, **options)


def back(op, dy, ctx):
    gradients = getattr(F, f"{op}_backward")(dy, ctx)
    return gradients if isinstance(gradients, tuple) else (gradients,)


def torch_norm(op, groups, eps):
    def function(x, gamma=None, beta=None):
        import torch.nn.functional as T

        if op == "layer_norm":
            return T.layer_norm(x, x.shape[1:], gamma, beta, eps)
        if op == "group_norm":
            return T.group_norm(x, groups, gamma, beta, eps)
        return T.instance_norm(x, None, None, gamma, beta, True, 0.1, eps)

    return function


def torch_local_response(**o):
    def function(x):
        import torch.nn.functional as T

        shape = x.shape if len(x.shape) > 2 else (*x.shape, 1)  # torch wants a pixel
        return T.local_response_norm(x.reshape(shape), o["size"], o["alpha"], o["beta"], o["k"]).reshape(x.shape)

    return function


def check_against_torch(xp, op, host, options, function, rng):
    """Forward and every gradient: float64 to 1e-9, float32 to 3e-5, both relative to 1 + |value|."""
    dy = rng.standard_normal(host[0].shape)
    y, expected = torch_gradients(function, host, dy)
    for dtype, rtol in (("float64", 1e-9), ("float32", 3e-5)):
        got, ctx = run(op, on(xp, host, dtype), **options)
        assert_close(got, y, rtol=rtol)
        for gradient, wanted in zip(back(op, xp.asarray(dy, dtype), ctx), expected, strict=True):
            assert (gradient is None) == (wanted is None)
            if wanted is not None:
                assert_close(gradient, wanted, rtol=rtol, atol=rtol * max(1.0, float(abs(wanted).max())))


CASES = [
    ("layer_norm", (5, 7), 1),
    ("layer_norm", (3, 2, 5), 1),
    ("layer_norm", (2, 3, 4, 5), 1),
    ("layer_norm", (1, 1, 2, 1), 1),
    ("group_norm", (5, 6), 3),
    ("group_norm", (2, 6, 4), 2),
    ("group_norm", (2, 6, 3, 5), 1),
    ("group_norm", (2, 6, 3, 5), 3),
    ("group_norm", (1, 4, 1, 2), 4),
    ("instance_norm", (2, 3, 5), 3),
    ("instance_norm", (2, 3, 4, 5), 3),
    ("instance_norm", (1, 1, 2, 1), 1),
]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("op, shape, groups", CASES)
def test_against_loops_and_torch(xp, op, shape, groups, affine, rng):
    host = arguments(op, shape, rng, affine)
    options = {"eps": 1e-3} | ({"groups": groups} if op == "group_norm" else {})
    assert_close(run(op, on(xp, host), **options)[0], naive_group_norm(*host, groups_of(op, shape, groups), 1e-3))
    check_against_torch(xp, op, host, options, torch_norm(op, groups, 1e-3), rng)


@given(data=st.data())
@settings(max_examples=60)
def test_random_shapes_against_torch(data):
    """Any shape and any number of groups, on NumPy; the table above runs on all libraries."""
    pytest.importorskip("torch")
    from xpnet import backend

    class Host:
        asarray = staticmethod(lambda x, dtype=None: np.array(x, dtype))

    size = st.integers(1, 6)
    groups, per_group = data.draw(size), data.draw(size)
    shape = (data.draw(size), groups * per_group, *data.draw(st.lists(size, min_size=0, max_size=3)))
    op = data.draw(st.sampled_from(["layer_norm", "group_norm"]))
    values = int(np.prod(shape[1:])) // groups_of(op, shape, groups)
    if values < 2 or shape[0] * values < 2:
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    options = {"eps": data.draw(st.sampled_from([1e-2, 1e-1]))} | ({"groups": groups} if op == "group_norm" else {})
    host = arguments(op, shape, rng, data.draw(st.booleans()))
    with backend.using("numpy"):
        check_against_torch(Host, op, host, options, torch_norm(op, groups, options["eps"]), rng)


@pytest.mark.parametrize("op", NORMS)
@pytest.mark.parametrize("gamma, beta", [(True, False), (False, True)])
def test_scale_without_shift_and_the_other_way_round(xp, op, gamma, beta, rng):
    host = arguments(op, (4, 2, 2, 3), rng)
    host[1:] = [host[1] if gamma else None, host[2] if beta else None]
    options = {"groups": 2} if op == "group_norm" else {}
    y, ctx = run(op, on(xp, host), **options)
    assert_close(y, naive_group_norm(*host, groups_of(op, (4, 2), 2), 1e-5), terms=12)
    _, dgamma, dbeta = back(op, xp.asarray(np.ones((4, 2, 2, 3))), ctx)
    assert (dgamma is not None, dbeta is not None) == (gamma, beta)


@pytest.mark.parametrize("op", NORMS)
def test_a_sample_does_not_depend_on_its_batch(xp, op, rng):
    host = arguments(op, (6, 4, 3, 2), rng)
    options = {"groups": 2} if op == "group_norm" else {}
    together = xp.to_numpy(run(op, on(xp, host), **options)[0])
    alone = [run(op, on(xp, [host[0][n : n + 1], *host[1:]]), **options)[0] for n in range(6)]
    np.testing.assert_allclose(together, np.concatenate([xp.to_numpy(y) for y in alone]), atol=1e-12)


# --- numbers that are hard -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", NORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_large_mean_and_small_spread(xp, op, dtype, batch, rng):
    """Mean 1e4, deviation 1: y keeps the digits that x itself has, whatever the sums over 4096 values lose."""
    x = (rng.standard_normal((batch, 4, 32, 32)) + 1e4).astype(dtype)
    options = {"groups": 2} if op == "group_norm" else {}
    y, ctx = run(op, on(xp, [x, None, None], dtype), **options)
    wide = x.astype(np.float64)
    G = groups_of(op, x.shape, 2)
    rows = wide.reshape(batch, G, -1)
    centred = rows - rows.mean(axis=2, keepdims=True)
    expected = (centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)).reshape(x.shape)
    eps = float(xp.xp.finfo(y.dtype).eps)
    assert_close(y, expected, rtol=1e-5 if dtype == "float32" else 1e-11)
    # the mean that backward takes off is a number of the type: right to half a unit of its last place
    assert abs(xp.to_numpy(ctx.mean)[:, 0, 0, :].T - rows.mean(axis=2)).max() <= 1e4 * eps
    dy = rng.standard_normal(x.shape).astype(dtype)
    g = dy.astype(np.float64).reshape(rows.shape)
    xhat = expected.reshape(rows.shape)
    wanted = g - g.mean(axis=2, keepdims=True) - xhat * (g * xhat).mean(axis=2, keepdims=True)
    wanted /= np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    assert_close(back(op, xp.asarray(dy), ctx)[0], wanted.reshape(x.shape), rtol=1e4 * eps, atol=1e4 * eps)


@pytest.mark.parametrize("value", [3.0, 1e4])
@pytest.mark.parametrize("op", NORMS)
def test_constant_sample(xp, op, value):
    """Variance zero: y is beta, and nothing is divided by zero."""
    x = np.full((2, 3, 5, 7), value)
    beta = np.full((3, 5, 7) if op == "layer_norm" else (3,), 0.5)
    options = {"groups": 3} if op == "group_norm" else {}
    y, ctx = run(op, on(xp, [x, None, beta], "float32"), **options)
    assert_close(y, np.full(x.shape, 0.5), atol=1e-4)
    assert np.isfinite(xp.to_numpy(back(op, y, ctx)[0])).all()


def test_half_floats_have_statistics_in_float32(rng):
    """A sum of squares of 1200 values of 100 exceeds what float16 can hold; float32 statistics do not notice."""
    x = (rng.standard_normal((2, 3, 20, 20)) * 100).astype(np.float16)
    for op, groups in (("layer_norm", 1), ("group_norm", 3), ("instance_norm", 3)):
        y, ctx = run(op, [x, None, None], **({"groups": 3} if op == "group_norm" else {}))
        assert y.dtype == np.float16
        assert ctx.mean.dtype == ctx.inv_std.dtype == np.float32
        assert_close(y, naive_group_norm(x, None, None, groups, 1e-5))
    y, ctx = F.local_response_norm_forward(x, alpha=1.0)
    assert ctx.d.dtype == np.float32
    assert_close(y, naive_local_response_norm(x, alpha=1.0))


# --- local response normalisation ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 7), (2, 6, 3, 4), (1, 1, 2, 2)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": 1, "alpha": 2.0, "beta": 1.0, "k": 2.0},
        {"size": 2, "alpha": 1.0, "beta": 0.5},
        {"size": 4, "alpha": 0.7, "beta": 0.3, "k": 0.5},
        {"size": 9, "alpha": 1.5, "beta": 0.75, "k": 2.0},
        {"size": 3, "alpha": 0.0, "beta": 0.0},
    ],
)
def test_local_response_against_loops_and_torch(xp, shape, settings, rng):
    full = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0} | settings
    host = [rng.standard_normal(shape) * 2]
    assert_close(F.local_response_norm_forward(*on(xp, host), **settings)[0], naive_local_response_norm(*host, **full))
    check_against_torch(xp, "local_response_norm", host, settings, torch_local_response(**full), rng)


# --- refusals ------------------------------------------------------------------------------------

X, ONE = np.ones((4, 6, 2, 2)), np.ones(6)


@pytest.mark.parametrize(
    "op, arrays, options, error, message",
    [
        ("layer_norm", [np.ones(3)], {}, ShapeError, "x must be (N, ...), none empty, got shape (3,)"),
        ("layer_norm", [np.ones((2, 0))], {}, ShapeError, "x must be (N, ...), none empty, got shape (2, 0)"),
        ("layer_norm", [np.ones((2, 1))], {}, ShapeError, "one value to normalise has no variance (x.shape=(2, 1)"),
        ("layer_norm", [X, ONE], {}, ShapeError,
         "gamma must have the shape of a sample = (6, 2, 2) for x.shape=(4, 6, 2, 2), got (6,)"),
        ("layer_norm", [X], {"eps": 0.0}, ArgumentError, "eps must be above 0, got 0.0"),
        ("layer_norm", [np.ones((2, 2), int)], {}, DTypeError, "x must hold floating-point numbers"),
        ("group_norm", [np.ones(3)], {"groups": 1}, ShapeError, "x must be (N, C, ...), none empty, got shape (3,)"),
        ("group_norm", [X], {"groups": 4}, ArgumentError, "groups must divide the 6 channels of x, got 4"),
        ("group_norm", [X], {"groups": 0}, ArgumentError, "groups must divide the 6 channels of x, got 0"),
        ("group_norm", [X], {"groups": 2.0}, ArgumentError, "groups must divide the 6 channels of x, got 2.0"),
        ("group_norm", [X, None, np.ones(5)], {"groups": 2}, ShapeError,
         "beta must have shape (C,) = (6,) for x.shape=(4, 6, 2, 2), got (5,)"),
        ("group_norm", [np.ones((2, 6))], {"groups": 6}, ShapeError, "one value to normalise has no variance"),
        ("group_norm", [X], {"groups": 2, "eps": float("nan")}, ArgumentError, "eps must be above 0, got nan"),
        ("instance_norm", [np.ones((2, 6))], {}, ShapeError, "one value to normalise has no variance"),
        ("instance_norm", [X, np.ones((6, 1))], {}, ShapeError, "gamma must have shape (C,) = (6,)"),
        ("local_response_norm", [np.ones((2, 3, 4))], {}, ShapeError,
         "x must be (N, C) or (N, C, H, W), none empty, got shape (2, 3, 4)"),
        ("local_response_norm", [X], {"size": 0}, ArgumentError,
         "size must be a number of channels, at least 1, got 0"),
        ("local_response_norm", [X], {"size": 2.5}, ArgumentError, "size must be a number of channels"),
        ("local_response_norm", [X], {"alpha": -1.0}, ArgumentError, "alpha must be finite and at least 0, got -1.0"),
        ("local_response_norm", [X], {"beta": float("inf")}, ArgumentError, "beta must be finite and at least 0"),
        ("local_response_norm", [X], {"k": 0.0}, ArgumentError, "k must be finite and above 0, got 0.0"),
    ],
)  # fmt: skip
def test_refusals(xp, op, arrays, options, error, message):
    if op != "local_response_norm":
        arrays = [*arrays, None, None][:3]
    with pytest.raises(error, match=f"^{op}: " + re.escape(message)):
        run(op, [None if a is None else xp.asarray(a) for a in arrays], **options)
