"""Add, Multiply and Parallel; Residual, the commonest sum, is tested with the containers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference import numerical_gradient
from xpnet import backend
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Activation, Add, BatchNorm, Conv2D, Dense, Flatten, Multiply, Parallel, Pool2D, Sequential
from xpnet.testing import assert_close


def branches() -> dict[str, object]:
    return {
        "conv": Conv2D(3, 3, padding=1, activation="tanh"),
        "deep": Sequential(Conv2D(2, 1), BatchNorm(), Conv2D(3, 3, padding=1)),
        "gate": Conv2D(3, 1, activation="sigmoid"),
    }


@pytest.mark.parametrize(
    ("kind", "merge"),
    [
        (Add, lambda ys: sum(ys[1:], ys[0])),
        (Multiply, lambda ys: ys[0] * ys[1] * ys[2]),
        (Parallel, lambda ys: np.concatenate(ys, axis=1)),
    ],
)
def test_forward_is_the_merge_of_the_branches(xp, rng, kind, merge) -> None:
    x = xp.asarray(rng.standard_normal((2, 3, 5, 4)).astype(np.float32))
    layer = kind(branches()).build((3, 5, 4), rng=1)
    outputs = [xp.to_numpy(child.predict(x)) for child in layer.children().values()]
    assert_close(layer.predict(x), merge(outputs))
    assert layer.output_shape((3, 5, 4)) == tuple(layer.predict(x).shape[1:])


@pytest.mark.parametrize("kind", [Add, Multiply, Parallel])
def test_gradients_of_input_and_parameters(rng, kind) -> None:
    with backend.using("numpy", dtype="float64"):
        layer = kind(branches()).build((3, 4, 3), rng=2)
        x = rng.standard_normal((2, 3, 4, 3))
        weight = rng.standard_normal(layer.predict(x).shape)

        def loss(array: np.ndarray, values: np.ndarray) -> float:
            before = array.copy()
            array[...] = values
            y = layer.forward(x, train=True)
            layer.forget()
            array[...] = before
            return float((y * weight).sum())

        layer.forward(x, train=True)
        dx = layer.backward(weight)
        for array, gradient in [(x, dx)] + [(p.data, p.grad.copy()) for p in layer.parameters()]:
            assert_close(gradient, numerical_gradient(lambda v: loss(array, v), array), rtol=1e-7)
        layer.zero_grad()
        layer.forward(x, train=True)
        assert layer.backward(weight, need_dx=False) is None


def test_parallel_channels_last(rng) -> None:
    x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    layer = Parallel(Conv2D(2, 1, data_format="NHWC"), Pool2D(1, data_format="NHWC"), data_format="NHWC")
    y = layer.forward(x)
    assert y.shape == (2, 5, 4, 5)
    assert np.array_equal(y[..., 2:], x)
    assert layer.backward(y).shape == x.shape


def test_parallel_features(rng) -> None:
    x = rng.standard_normal((2, 3)).astype(np.float32)
    layer = Parallel(Activation("identity"), Dense(2))
    assert layer.forward(x).shape == (2, 5)
    assert layer.backward(np.ones((2, 5), np.float32)).shape == (2, 3)


def test_a_layer_in_two_branches_gets_both_gradients(rng) -> None:
    x = rng.standard_normal((4, 3)).astype(np.float32)
    shared = Dense(3)
    layer = Add({"once": shared, "twice": Sequential({"a": shared, "b": shared})}).build((3,), rng=1)
    assert len(layer.parameters()) == 2
    layer.forward(x)
    dx = layer.backward(np.ones((4, 3), np.float32))
    W, ones = shared.W.data, np.ones((4, 3), np.float32)
    assert_close(dx, ones @ W.T + ones @ W.T @ W.T)
    assert_close(shared.W.grad, x.T @ ones + x.T @ (ones @ W.T) + (x @ W + shared.b.data).T @ ones)


def test_dy_is_shared_and_stays(rng) -> None:
    x = rng.standard_normal((4, 3)).astype(np.float32)
    dy = rng.standard_normal((4, 3)).astype(np.float32)
    before = dy.copy()
    layer = Add(Activation("relu"), Activation("identity"), Dense(3))
    layer.forward(x)
    layer.backward(dy)
    assert np.array_equal(dy, before)


def test_wrong_shapes_and_arguments() -> None:
    with pytest.raises(ShapeError, match=r"Add: the branches must give one shape, but a gives \(2,\), b gives \(3,\)"):
        Add({"a": Dense(2), "b": Dense(3)}).build((4,))
    with pytest.raises(ShapeError, match=r"Parallel: .* of one size, but 0 gives \(2, 4, 4\), 1 gives \(2, 2, 2\)"):
        Parallel(Conv2D(2, 1), Conv2D(2, 3)).build((3, 4, 4))
    with pytest.raises(ShapeError, match=r'Conv2D \(layer "head.b"\)'):
        Sequential({"head": Add({"a": Flatten(), "b": Conv2D(2, 3)})}).build((4,))
    with pytest.raises(ArgumentError, match="Multiply: expected at least one layer"):
        Multiply()
    with pytest.raises(ArgumentError, match=r"Add: expected layers, got 3 \(int\) as '1'"):
        Add(Dense(2), 3)


def test_a_failing_branch_leaves_nothing_behind(rng) -> None:
    layer = Add(Dense(3), Dense(3)).build((3,))
    layer.children()["1"]._forward = lambda x, train: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        layer.forward(np.ones((2, 3), np.float32))
    assert not any(part._pending for _, part in layer.named_layers())


def test_summary_shows_branches_and_merge() -> None:
    summary = Sequential({"mix": Parallel({"a": Conv2D(2, 1), "b": Conv2D(3, 1)})}).summary((4, 5, 5))
    assert [(r.path, r.output_shape) for r in summary.rows] == [
        ("mix.a", (2, 5, 5)),
        ("mix.b", (3, 5, 5)),
        ("mix.|", (5, 5, 5)),
    ]
    assert summary.parameters == 2 * 4 + 2 + 3 * 4 + 3
