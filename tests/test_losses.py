"""Losses with the face of a layer."""

import numpy as np
import pytest

from xpnet import backend, losses
from xpnet import functional as F
from xpnet.errors import ArgumentError, DTypeError, StateError
from xpnet.testing import assert_close

HALVES = [("numpy", "float16"), ("torch", "float16"), ("torch", "bfloat16"), ("cupy", "float16"), ("cupy", "bfloat16")]


def _softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_cross_entropy(xp, rng, smoothing, one_hot):
    z, t = rng.normal(size=(6, 5)), rng.integers(0, 5, size=6)
    given = np.eye(5, dtype=np.float32)[t] if one_hot else t
    logits, labels = xp.asarray(z, "float32"), xp.asarray(given)
    loss = losses.SoftmaxCrossEntropy(label_smoothing=smoothing)
    value = loss.forward(logits, labels)
    target = (1 - smoothing) * np.eye(5)[t] + smoothing / 5
    expected = -(target * np.log(_softmax(z))).sum() / 6
    assert_close(value, expected, terms=30)
    assert value.shape == ()
    dz = loss.backward()
    assert_close(dz, (_softmax(z) - target) / 6, terms=5)
    loss.forward(logits, labels)
    assert_close(loss.backward(3.0), 3 * xp.to_numpy(dz))
    ours, ctx = F.softmax_cross_entropy_forward(logits, labels, label_smoothing=smoothing)
    assert np.array_equal(xp.to_numpy(ours), xp.to_numpy(value))
    assert np.array_equal(xp.to_numpy(F.softmax_cross_entropy_backward(1.0, ctx)), xp.to_numpy(dz))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_cross_entropy_equals_torch(rng, smoothing):
    torch = pytest.importorskip("torch")
    z, t = torch.tensor(rng.normal(size=(6, 5)), requires_grad=True), torch.tensor(rng.integers(0, 5, size=6))
    value = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(z, t)
    value.backward()
    loss = losses.SoftmaxCrossEntropy(label_smoothing=smoothing)
    assert_close(loss.forward(z.detach().numpy(), t.numpy()), value.detach().numpy(), terms=30)
    assert_close(loss.backward(), z.grad.numpy(), terms=5)


@pytest.mark.parametrize("reduction, factor", [("mean", 1 / 20), ("half_sum", 1 / 8)])
def test_mean_squared_error(xp, rng, reduction, factor):
    y, t = rng.normal(size=(2, 4, 5))
    loss = losses.MeanSquaredError(reduction=reduction)
    value = loss.forward(xp.asarray(y, "float32"), xp.asarray(t, "float32"))
    assert_close(value, factor * ((y - t) ** 2).sum(), terms=20)
    assert_close(loss.backward(), 2 * factor * (y - t))
    loss.forward(xp.asarray(y, "float32"), xp.asarray(t, "float32"))
    assert_close(loss.backward(xp.asarray(0.5, "float32")), factor * (y - t))


@pytest.mark.parametrize("cls", [losses.SoftmaxCrossEntropy, losses.MeanSquaredError])
def test_backward_without_forward(cls):
    loss = cls()
    text = rf"{cls.__name__}: backward without a forward; call forward\(y, t\) first"
    y = np.ones((2, 3), np.float32)
    with pytest.raises(StateError, match=text):
        loss.backward()
    loss(y, y)  # keeps nothing
    with pytest.raises(StateError, match=text):
        loss.backward()
    loss.forward(y, y)
    loss.backward()
    with pytest.raises(StateError, match=text):
        loss.backward()


def test_calling_gives_the_same_number(rng):
    y, t = rng.normal(size=(2, 4, 5))
    for loss in (losses.SoftmaxCrossEntropy(label_smoothing=0.1), losses.MeanSquaredError()):
        assert loss(y, t) == loss.forward(y, t)


@pytest.mark.parametrize(
    "loss, op, y, t, arguments, options",
    [
        (losses.BinaryCrossEntropy(), "binary_cross_entropy", (3, 2), [[0, 1], [1, 1], [0, 0]], [], {}),
        (
            losses.BinaryCrossEntropy(positive_weight=[1.0, 3.0]),
            "binary_cross_entropy",
            (3, 2),
            [[0, 1], [1, 1], [0, 0]],
            [[1.0, 3.0]],
            {},
        ),
        (losses.Hinge(), "hinge", (3,), [1, -1, 1], [], {}),
        (losses.Huber(), "huber", (3,), [1.0, -1.0, 3.0], [], {}),
        (losses.Huber(delta=0.1), "huber", (3,), [1.0, -1.0, 3.0], [], {"delta": 0.1}),
        (losses.KLDivergence(), "kl_divergence", (2, 2), [[0.0, 1.0], [0.5, 0.5]], [], {}),
        (losses.MeanAbsoluteError(), "mean_absolute_error", (3,), [1.0, -1.0, 3.0], [], {}),
        (
            losses.SoftmaxCrossEntropy(class_weights=(1, 2, 0.5), ignore_index=7, label_smoothing=0.1),
            "softmax_cross_entropy",
            (4, 3),
            [0, 7, 2, 1],
            [[1.0, 2.0, 0.5]],
            {"ignore_index": 7, "label_smoothing": 0.1},
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_is_the_functional_pair(xp, rng, loss, op, y, t, arguments, options):
    """For each float type in turn: weights go where the output of the model is."""
    values = rng.normal(size=y)
    for dtype in ("float32", "float64", "float32"):
        x = xp.asarray(values, dtype)
        target = xp.asarray(t, dtype if isinstance(np.ravel(t)[0], np.floating) else None)
        more = [xp.asarray(a, dtype) for a in arguments]
        value, ctx = getattr(F, f"{op}_forward")(x, target, *more, **options)
        assert np.array_equal(xp.to_numpy(loss.forward(x, target)), xp.to_numpy(value))
        dx = getattr(F, f"{op}_backward")(2.0, ctx)
        assert np.array_equal(xp.to_numpy(loss.backward(2.0)), xp.to_numpy(dx))
        assert type(losses.by_name(op)) is type(loss)


def test_weights_from_any_library(xp):
    """An array of weights is read once and follows the model."""
    loss = losses.SoftmaxCrossEntropy(class_weights=xp.asarray([1.0, 3.0]))
    value = loss(np.zeros((2, 2), np.float32), np.array([0, 1]))
    assert value.dtype == np.float32
    assert_close(value, np.log(2), terms=4)


@pytest.mark.parametrize("name", list(losses._NAMES))
def test_targets_left_out(xp, name):
    y = xp.asarray(np.zeros((2, 3)))
    with pytest.raises(DTypeError, match=f"^{name}: t: expected an array, got NoneType"):
        losses.by_name(name)(y, None)


@pytest.mark.parametrize(
    "settings, t, dtype, expected",
    [
        ({"class_weights": [1.0, 2.0, 0.5]}, [[0, 1, 0], [0, 0, 1]], "int64", 2.5),
        ({"class_weights": [1.0, 2.0, 0.5]}, [[0, 1, 0], [0.5, 0, 0.5]], "float32", 2.75),
        ({"ignore_index": -1}, [0, 2], "uint8", 2.0),
        ({"ignore_index": 2, "class_weights": [1.0, 2.0, 0.5]}, [0, 1, 2], "uint8", 3.0),
        ({"ignore_index": -1, "class_weights": [1.0, 2.0, 0.5]}, [0, -1, 2], "int32", 1.5),
    ],
)
def test_weight_takes_what_forward_takes(xp, settings, t, dtype, expected):
    loss, y, t = (
        losses.SoftmaxCrossEntropy(**settings),
        xp.asarray(np.zeros((len(t), 3), np.float32)),
        xp.asarray(t, dtype),
    )
    assert float(loss.weight(y, t)) == expected
    loss.forward(y, t)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_labels_that_are_no_class_weigh_something(xp, weights):
    """A batch that weighs nothing is skipped: it must not hide them from forward."""
    loss = losses.SoftmaxCrossEntropy(class_weights=weights, ignore_index=-1)
    for label in (-2, 3):
        assert float(loss.weight(xp.asarray(np.zeros((1, 3), np.float32)), xp.asarray([label]))) > 0.0


@pytest.mark.parametrize("library, dtype", HALVES, ids="-".join)
def test_half_types_round_neither_weights_nor_losses(needs_backend, library, dtype):
    needs_backend(library)
    with backend.using(library, dtype=dtype):
        y, t = backend.asarray(np.zeros((3000, 2)), dtype=dtype), backend.asarray(np.arange(3000) % 2)
        like = losses.SoftmaxCrossEntropy(class_weights=[1.001, 1e5])
        for loss, expected in ((like, 1500 * (1.001 + 1e5)), (losses.SoftmaxCrossEntropy(ignore_index=-1), 3000)):
            assert float(loss.weight(y, t)) == pytest.approx(expected, rel=1e-6)
            assert float(loss.forward(y, t)) == pytest.approx(np.log(2), rel=1e-6)
            assert loss.backward().dtype == y.dtype
        loss, yes = losses.BinaryCrossEntropy(positive_weight=[1.001, 1e5]), backend.asarray(np.ones((3000, 2), int))
        assert float(loss.forward(y, yes)) == pytest.approx((1.001 + 1e5) / 2 * np.log(2), rel=1e-6)
        assert loss.backward().dtype == y.dtype


def test_by_name():
    assert type(losses.by_name("softmax_cross_entropy")) is losses.SoftmaxCrossEntropy
    assert type(losses.by_name("mean_squared_error")) is losses.MeanSquaredError
    mine = losses.SoftmaxCrossEntropy(label_smoothing=0.3)
    assert losses.by_name(mine) is mine
    with pytest.raises(
        ValueError, match="losses: no loss 'cosine'; there are mean_squared_error, softmax_cross_entropy"
    ):
        losses.by_name("cosine")


def test_bad_settings():
    for smoothing in (-0.1, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="SoftmaxCrossEntropy: label_smoothing must be at least 0 and below 1"):
            losses.SoftmaxCrossEntropy(label_smoothing=smoothing)
    with pytest.raises(ArgumentError, match="MeanSquaredError: reduction must be one of mean, half_sum, got 'sum'"):
        losses.MeanSquaredError(reduction="sum")


def test_bad_weights_and_delta():
    for weights in ([1.0, -1.0], [float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ArgumentError, match="SoftmaxCrossEntropy: class_weights must be one number a class"):
            losses.SoftmaxCrossEntropy(class_weights=weights)
        with pytest.raises(ArgumentError, match="BinaryCrossEntropy: positive_weight must be one number a class"):
            losses.BinaryCrossEntropy(positive_weight=weights)
    with pytest.raises(ArgumentError, match="Huber: delta must be finite and above 0, got 0"):
        losses.Huber(delta=0)


def test_unfinished_subclass():
    with pytest.raises(NotImplementedError, match=r"Loss must define _forward\(y, t\)"):
        losses.Loss().forward(np.ones(1), np.ones(1))


def test_repr_shows_what_is_not_the_default():
    assert [repr(losses.by_name(name)) for name in ("softmax_cross_entropy", "huber")] == [
        "SoftmaxCrossEntropy()",
        "Huber()",
    ]
    for said in (
        "SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=[1.0, 2.0], ignore_index=255)",
        "BinaryCrossEntropy(positive_weight=[3.0])",
        "MeanSquaredError(reduction='half_sum')",
        "Huber(delta=0.5)",
    ):
        assert repr(eval(said, vars(losses))) == said
