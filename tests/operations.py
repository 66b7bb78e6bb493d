"""One table of all operations of xpnet.functional, with arguments, for the tests that hold for every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import xpnet.functional as F

Values = tuple[int, ...] | Callable[[np.random.Generator], np.ndarray] | None
# operations of each element for itself, to which an empty batch is as good as any
ELEMENTWISE = (
    *("relu", "sigmoid", "tanh", "step", "identity", "affine", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu"),
    *("mish", "relu6", "hard_sigmoid", "hard_swish", "softplus", "softsign", "exponential", "dropout"),
)
BATCHED = ("x", "y", "t", "logits")  # names of the arrays whose first axis is the batch


@dataclass(frozen=True, eq=False)
class Case:
    """An operation with one set of arguments.

    `arrays` maps each array argument, in order, to its shape (normal values), to a function of a generator
    that makes it, or to None. `gradients` names those that backward returns, in order.
    """

    op: str
    label: str
    arrays: dict[str, Values]
    gradients: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    terms: int = 1  # length of the longest sum behind an element of an output or gradient
    is_loss: bool = False
    keeps_arrays: bool = True  # False: backward has nothing to compare the library and type of dy with

    def __str__(self) -> str:
        return f"{self.op}-{self.label}" if self.label else self.op

    def make(self, rng: np.random.Generator, *, batch: int | None = None) -> list[np.ndarray | None]:
        """Draw the array arguments in float64 (labels: int64); `batch` cuts the batch to that size."""
        made = []
        for name, values in self.arrays.items():
            a = rng.standard_normal(values) if isinstance(values, tuple) else values and values(rng)
            made.append(a[:batch] if name in BATCHED and batch else a)
        return made

    def forward(self, *arrays: Any) -> tuple[Any, ...]:
        return getattr(F, f"{self.op}_forward")(*arrays, **self.options)

    def backward(self, dy: Any, ctx: Any) -> tuple[Any, ...]:
        """Return a tuple even where the operation returns a bare array."""
        gradients = getattr(F, f"{self.op}_backward")(dy, ctx)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        given = dict(zip(self.arrays, self.arrays.values(), strict=True))
        assert len(gradients) == len(self.gradients)
        for name, gradient in zip(self.gradients, gradients, strict=True):
            assert (gradient is None) == (given[name] is None), f"gradient of {name}"
        return gradients


def _labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4, 3)


def _one_hot(rng: np.random.Generator) -> np.ndarray:
    return np.eye(4, dtype=np.int64)[_labels(rng)]


def _some_ignored(rng: np.random.Generator) -> np.ndarray:
    return np.array([2, -1, 0])


def _answers(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2, (3, 4))


def _signs(rng: np.random.Generator) -> np.ndarray:
    return 2.0 * rng.integers(0, 2, (3, 4)) - 1.0


def _weights(rng: np.random.Generator) -> np.ndarray:
    return rng.random(4) + 0.5


def _probabilities(rng: np.random.Generator) -> np.ndarray:
    t = rng.random((3, 4))
    return t / t.sum(axis=1, keepdims=True)


def _variances(rng: np.random.Generator) -> np.ndarray:
    return rng.random(3) + 0.5


def _conv(label: str, x: tuple, W: tuple, b: tuple | None, terms: int, **options: Any) -> Case:
    return Case("conv2d", label, {"x": x, "W": W, "b": b}, ("x", "W", "b"), options, terms)


def _transpose(label: str, x: tuple, W: tuple, b: tuple | None, terms: int, **options: Any) -> Case:
    return Case("conv_transpose2d", label, {"x": x, "W": W, "b": b}, ("x", "W", "b"), options, terms)


def _pool(label: str, **options: Any) -> Case:
    return Case("pool2d", label, {"x": (2, 3, 5, 4)}, ("x",), options, terms=9)


def _upsample(label: str, **options: Any) -> Case:
    return Case("upsample2d", label, {"x": (2, 3, 3, 4)}, ("x",), options, terms=9, keeps_arrays=False)


def _norm(label: str, x: tuple, terms: int, affine: bool = True, **options: Any) -> Case:
    gamma = (3,) if affine else None
    arrays = {"x": x, "gamma": gamma, "beta": gamma, "running_mean": (3,), "running_var": _variances}
    return Case("batch_norm", label, arrays, ("x", "gamma", "beta"), options, terms)


def _sample_norm(op: str, label: str, x: tuple, affine: tuple | None, terms: int, **options: Any) -> Case:
    return Case(op, label, {"x": x, "gamma": affine, "beta": affine}, ("x", "gamma", "beta"), options, terms)


def _one(op: str, label: str = "", shape: tuple = (2, 3, 3, 5), **options: Any) -> Case:
    terms = 15 if "pool" in op else 1
    return Case(op, label, {"x": shape}, ("x",), options, terms, keeps_arrays=op not in ("step", "identity", "affine"))


def _cross_entropy(label: str, t: Values, **options: Any) -> Case:
    arrays = {"logits": (3, 4), "t": t}
    return Case("softmax_cross_entropy", label, arrays, ("logits",), options, terms=12, is_loss=True)


def _weighted_cross_entropy(label: str, t: Values, **options: Any) -> Case:
    arrays = {"logits": (3, 4), "t": t, "class_weights": _weights}
    return Case("softmax_cross_entropy", label, arrays, ("logits",), options, terms=12, is_loss=True)


def _binary(op: str, label: str, y: str, t: Values, weighted: bool = False) -> Case:
    arrays = {y: (3, 4), "t": t} | ({"positive_weight": _weights} if weighted else {})
    return Case(op, label, arrays, (y,), terms=12, is_loss=True)


def _squared_error(label: str, shape: tuple, **options: Any) -> Case:
    return Case("mean_squared_error", label, {"y": shape, "t": shape}, ("y",), options, terms=30, is_loss=True)


CASES = [
    _conv("plain", (2, 3, 5, 4), (4, 3, 3, 2), (4,), 40),
    _conv("uneven padding", (2, 2, 3, 5), (3, 2, 3, 3), (3,), 40, padding=((1, 0), (2, 1))),
    _conv("pointwise", (3, 3, 3, 3), (2, 3, 1, 1), (2,), 27),
    _conv("stride above kernel", (2, 2, 7, 5), (3, 2, 2, 1), None, 36, stride=(3, 2)),
    _conv("groups, dilation", (2, 4, 5, 4), (4, 2, 3, 2), (4,), 60, padding=1, dilation=(1, 2), groups=2),
    _conv("winograd", (2, 3, 5, 6), (4, 3, 3, 3), (4,), 270, padding=((1, 0), (2, 1)), algorithm="winograd"),
    _conv("relu", (2, 3, 5, 4), (4, 3, 3, 2), (4,), 120, padding=1, activation="relu"),
    _conv("relu, no bias, pointwise", (2, 3, 2, 4), (4, 3, 1, 1), None, 40, activation="relu"),
    _conv("relu, winograd", (2, 3, 5, 6), (4, 3, 3, 3), (4,), 270, padding=1, algorithm="winograd", activation="relu"),
    _conv("relu, depthwise", (2, 3, 5, 5), (6, 1, 3, 3), (6,), 100, padding="same", groups=3, activation="relu"),
    _conv("depthwise, strided", (2, 3, 5, 5), (3, 1, 3, 3), (3,), 18, stride=2, padding="same", groups=3),
    _conv("depthwise, two filters each", (2, 3, 4, 5), (6, 1, 2, 3), (6,), 24, padding=((1, 0), (0, 2)), groups=3),
    _conv("depthwise, three filters each", (2, 2, 4, 3), (6, 1, 2, 2), None, 12, groups=2),
    _transpose("plain", (2, 3, 4, 3), (3, 4, 3, 2), (4,), 40),
    _transpose("strided", (2, 2, 3, 3), (2, 3, 3, 2), (3,), 40, stride=(2, 3), padding=1, output_padding=(1, 2)),
    _transpose("uneven padding, dilation", (2, 2, 3, 4), (2, 2, 2, 3), None, 40, padding=((1, 0), (2, 1)), dilation=2),
    _transpose("groups", (2, 4, 3, 2), (4, 2, 2, 3), (4,), 36, stride=2, padding="same", groups=2),
    _transpose("depthwise", (2, 3, 3, 3), (3, 1, 3, 3), (3,), 24, stride=2, padding=1, output_padding=1, groups=3),
    Case("linear", "bias", {"x": (3, 5), "W": (5, 4), "b": (4,)}, ("x", "W", "b"), terms=5),
    Case("linear", "no bias", {"x": (3, 5), "W": (5, 4), "b": None}, ("x", "W", "b"), terms=5),
    Case("linear", "relu", {"x": (3, 5), "W": (5, 4), "b": (4,)}, ("x", "W", "b"), {"activation": "relu"}, terms=15),
    Case("flatten", "images", {"x": (2, 3, 3, 2)}, ("x",), keeps_arrays=False),
    Case("flatten", "rows", {"x": (3, 5)}, ("x",), keeps_arrays=False),
    Case("reshape", "images", {"x": (2, 12)}, ("x",), {"shape": (3, 2, 2)}, keeps_arrays=False),
    Case("reshape", "rows", {"x": (3, 2, 3)}, ("x",), {"shape": (6,)}, keeps_arrays=False),
    Case("dropout", "train", {"x": (3, 7)}, ("x",), {"rate": 0.4, "seed": 3}, keeps_arrays=False),
    Case("dropout", "images", {"x": (2, 3, 3, 3)}, ("x",), {"stream": 2, "step": 5}, keeps_arrays=False),
    Case("dropout", "inference", {"x": (3, 7)}, ("x",), {"train": False}, keeps_arrays=False),
    _pool("max", kernel_size=2),
    _pool("max, inference", kernel_size=2, train=False),
    _pool("max overlapping, inference", kernel_size=3, stride=2, train=False),
    _pool("max overlapping, padded", kernel_size=(3, 2), stride=(2, 1), padding=1),
    _pool("max dilated", kernel_size=2, stride=1, dilation=(3, 2)),
    _pool("average", kernel_size=2, mode="average"),
    _pool("average overlapping, padded", kernel_size=3, stride=2, padding=1, mode="average"),
    _pool("average of the image", kernel_size=3, stride=2, padding=1, mode="average", count_include_pad=False),
    _pool("max, ceil mode", kernel_size=3, stride=2, padding=((1, 0), (0, 1)), ceil_mode=True),
    _pool("average, ceil mode", kernel_size=2, stride=(3, 2), padding=1, mode="average", ceil_mode=True),
    _pool("norm", kernel_size=2, mode="lp"),
    _pool("cubic norm, padded", kernel_size=(3, 2), stride=(2, 1), padding=1, dilation=(1, 2), mode="lp", p=3),
    _pool("sum of sizes", kernel_size=2, stride=1, mode="lp", p=1, ceil_mode=True),
    _one("global_pool2d", "average"),
    _one("global_pool2d", "max", mode="max"),
    _one("global_pool2d", "norm", mode="lp", keepdims=True),
    _one("global_pool2d", "cubic norm", mode="lp", p=3),
    _one("adaptive_pool2d", "average", (2, 3, 5, 4), output_size=(2, 3)),
    _one("adaptive_pool2d", "max", (2, 3, 4, 5), output_size=3, mode="max"),
    _one("adaptive_pool2d", "larger than the image", (2, 2, 2, 3), output_size=(3, 4), mode="max"),
    _upsample("nearest", scale=(2, 3)),
    _upsample("nearest, rows alone", scale=(3, 1)),
    _upsample("bilinear", mode="bilinear"),
    _upsample("bilinear, uneven", scale=(1, 3), mode="bilinear"),
    _norm("images", (2, 3, 2, 3), 12, train=True, momentum=0.3),
    _norm("images, inference", (2, 3, 2, 3), 12, train=False),
    _norm("features", (5, 3), 5, train=True),
    _norm("relu", (2, 3, 4, 3), 24, train=True, activation="relu"),
    _norm("relu, inference", (2, 3, 2, 3), 12, train=False, activation="relu"),
    _norm("relu, features, no affine", (5, 3), 5, affine=False, train=True, activation="relu"),
    _norm("features, no affine", (5, 3), 5, affine=False, train=True, eps=0.1),
    _sample_norm("layer_norm", "features", (5, 4), (4,), 10),
    _sample_norm("layer_norm", "images", (2, 3, 2, 3), (3, 2, 3), 36),
    _sample_norm("layer_norm", "sequences, no affine", (3, 2, 3), None, 12, eps=0.1),
    _sample_norm("group_norm", "images", (2, 4, 3, 2), (4,), 24, groups=2),
    _sample_norm("group_norm", "features, no affine", (3, 6), None, 6, groups=2, eps=0.1),
    _sample_norm("group_norm", "one group", (2, 3, 1, 2), (3,), 12, groups=1),
    _sample_norm("instance_norm", "images", (2, 3, 2, 3), (3,), 12),
    _sample_norm("instance_norm", "images, no affine", (2, 1, 3, 3), None, 18, eps=0.1),
    _one("local_response_norm", "images", (2, 7, 2, 3)),
    _one("local_response_norm", "strong, even window", (2, 5, 3, 2), size=4, alpha=2.0, beta=0.6, k=2.0),
    _one("local_response_norm", "rows, window above the channels", (3, 4), size=11, alpha=1.0, beta=0.5),
    _one("relu"),
    _one("relu", "rows", (3, 7)),
    _one("sigmoid"),
    _one("sigmoid", "rows", (3, 7)),
    _one("tanh"),
    _one("tanh", "rows", (3, 7)),
    _one("step"),
    _one("identity"),
    _one("affine", "", (3, 7), slope=-1.5, intercept=0.5),
    _one("leaky_relu"),
    _one("leaky_relu", "steep, rows", (3, 7), slope=1.5),
    Case("prelu", "channels", {"x": (2, 3, 3, 5), "slope": (3,)}, ("x", "slope"), terms=30),
    Case("prelu", "features", {"x": (5, 3), "slope": (3,)}, ("x", "slope"), terms=5),
    Case("prelu", "one slope", {"x": (2, 3, 3, 5), "slope": (1,)}, ("x", "slope"), terms=90),
    _one("elu"),
    _one("elu", "alpha, rows", (3, 7), alpha=0.4),
    _one("selu"),
    _one("gelu"),
    _one("gelu", "rows", (3, 7)),
    _one("gelu", "tanh", approximate="tanh"),
    _one("silu"),
    _one("mish"),
    _one("hard_sigmoid"),
    _one("relu6"),
    _one("hard_swish"),
    _one("softplus"),
    _one("softsign"),
    _one("exponential"),
    _one("softmax", "rows", (3, 7)),
    _one("softmax", "channels", axis=1),
    _one("log_softmax", "rows", (3, 7)),
    _one("log_softmax", "channels", axis=1),
    _cross_entropy("labels", _labels),
    _cross_entropy("one-hot integers", _one_hot),
    _cross_entropy("probabilities", _probabilities),
    _cross_entropy("smoothed", _labels, label_smoothing=0.1),
    _cross_entropy("ignoring", _some_ignored, ignore_index=-1),
    _cross_entropy("ignoring, smoothed", _some_ignored, ignore_index=-1, label_smoothing=0.1),
    _weighted_cross_entropy("weighted", _labels),
    _weighted_cross_entropy("weighted probabilities", _probabilities),
    _weighted_cross_entropy("weighted, ignoring, smoothed", _some_ignored, ignore_index=-1, label_smoothing=0.2),
    _binary("binary_cross_entropy", "probabilities", "logits", _probabilities),
    _binary("binary_cross_entropy", "answers, weighted", "logits", _answers, weighted=True),
    _binary("hinge", "", "y", _signs),
    _binary("kl_divergence", "", "y", _probabilities),
    Case("mean_absolute_error", "", {"y": (3, 5), "t": (3, 5)}, ("y",), terms=15, is_loss=True),
    Case("huber", "", {"y": (3, 2, 5), "t": (3, 2, 5)}, ("y",), {"delta": 0.7}, terms=30, is_loss=True),
    _squared_error("mean", (3, 5)),
    _squared_error("half sum", (3, 2, 5), reduction="half_sum"),
]
