"""The launches of a training step on CuPy are counted and pinned: they cost more than what small layers compute."""

from __future__ import annotations

import pytest

from tests.kernels.counting_cupy import AROUND, MODELS, count, count_around, count_operation, total
from tests.operations import CASES
from xpnet.layers import (
    Activation,
    AdaptivePool2D,
    Conv2D,
    Dense,
    GlobalPool2D,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Sequential,
)
from xpnet.optim import LAMB, AdaDelta, Adam, AdamW, Lion, Momentum


@pytest.mark.parametrize("name, most", [("LeNet", 50), ("ResNet-20", 266)])
def test_launches_do_not_grow(name, most):
    """`python -m tests.kernels.counting_cupy` shows which layer has more; docs/gpu.md has the numbers too."""
    make, shape = MODELS[name]
    assert total(count(make(), shape)) == most


@pytest.mark.parametrize(
    "kind, measuring", [("labels", 2), ("one-hot rows", 3), ("labels, some left out", 6), ("numbers", 1)]
)
def test_launches_beside_a_step_do_not_grow(kind, measuring):
    batch, means = count_around(*AROUND[kind])
    assert (batch, len(means)) == (["gather_transposed", "take"], measuring)


def test_a_layer_is_as_few_launches_as_documented():
    make, shape = MODELS["ResNet-20"]
    layers = count(make(), shape)
    assert layers["relu ReLU"] == layers["relu1_1 ReLU"] == [[], []]  # done by the layers before
    assert layers["block1_1 Residual"][0] == ["add_relu"]
    forward, backward = layers["norm BatchNorm"]
    assert forward == ["batch_norm_statistics", "batch_norm_train", "running_statistics"]
    assert backward == ["batch_norm_sums", "batch_norm_gradient"]
    assert layers["block1_1.body.0 Conv2D"][0] == ["im2col", "product"]


def test_a_depthwise_convolution_is_a_launch_for_each_thing_made():
    layers = count(Sequential(Conv2D(3, 1), Conv2D(6, 3, padding=1, groups=3), GlobalPool2D()), (2, 8, 8), classes=6)
    forward, backward = layers["1 Conv2D"]
    assert forward == ["depthwise_forward", "add_bias"]
    assert backward[:2] == ["depthwise_weight_gradient", "depthwise_input_gradient"]


BY_ELEMENT = ("binary_cross_entropy", "huber", "mean_absolute_error", "mean_squared_error")


@pytest.mark.parametrize("case", [case for case in CASES if case.op in BY_ELEMENT], ids=str)
def test_a_loss_by_element_is_a_launch_each_way(case):
    forward, backward = count_operation(case)
    assert [name for name in forward if name != "astype"] == [backward[0].removesuffix("_gradient")]  # of integers
    assert len(backward) == 1


@pytest.mark.parametrize("case", [case for case in CASES if case.op in ("softmax", "log_softmax")], ids=str)
def test_softmax_is_a_launch_each_way(case):
    assert count_operation(case) == (["softmax"], ["softmax_gradient"])


ACTIVATIONS = ["elu", "gelu", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "relu6", "selu", "sigmoid", "silu",
               "softplus", "softsign", "tanh"]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_a_launch_each_way(name):
    layers = count(Sequential(Conv2D(3, 1), Activation(name), GlobalPool2D()), (2, 8, 8), classes=3)
    assert [len(way) for way in layers["1 Activation"]] == [1, 1]


@pytest.mark.parametrize("layer", [LayerNorm(), GroupNorm(3), InstanceNorm()], ids=lambda layer: type(layer).__name__)
def test_norms_of_each_image_are_two_launches_each_way_and_one_for_the_scales(layer):
    layers = count(Sequential(Conv2D(3, 1), layer, GlobalPool2D()), (2, 8, 8), classes=3)
    forward, backward = layers[f"1 {type(layer).__name__}"]
    assert forward == ["group_norm_statistics", "group_norm"]
    scales = ["group_norm_scale_gradients"] * bool(layer.parameters())
    assert backward == ["group_norm_sums", "group_norm_gradient", *scales]


@pytest.mark.parametrize("mode", ["average", "max"])
def test_pooling_to_a_given_size_is_a_launch_each_way(mode):
    pools = AdaptivePool2D(3, mode=mode), GlobalPool2D(mode=mode)
    layers = count(Sequential(Conv2D(3, 1), *pools, Dense(3)), (2, 8, 8), 3)
    for name in ("1 AdaptivePool2D", "2 GlobalPool2D"):
        assert layers[name] == [[f"bin_{mode}_forward"], [f"bin_{mode}_backward"]]


OPTIMIZERS = [
    (AdamW(), ["decay_weights", "adam"]),
    (Adam(amsgrad=True), ["amsgrad"]),
    (AdaDelta(), ["adadelta"]),
    (Lion(), ["lion"]),
    (LAMB(weight_decay=0.01), ["lamb_step", "lamb_norms", "lamb"]),
    (Momentum(weight_decay=0.01), ["decay_gradient", "momentum"]),
    (Momentum(clip_norm=1.0), ["square_sum", "sqrt", "clip_by_norm", "momentum"]),
]


@pytest.mark.parametrize("optimizer, launches", OPTIMIZERS, ids=lambda value: type(value).__name__)
def test_an_update_is_a_launch_for_the_whole_model_and_few_more(optimizer, launches):
    layers = count(Sequential(Conv2D(3, 1), Conv2D(3, 1), GlobalPool2D()), (2, 8, 8), 3, optimizer)
    assert layers["optimizer"][0] == ["add_all", *launches]  # the gradients of all layers into those of the model
