"""The models of the literature: sizes as published, and a training step of each family."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend, models
from xpnet.gradcheck import check_gradients
from xpnet.layers import Dense, GlobalPool2D, Residual, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import VGG, GoogLeNet, MobileNet, MobileNetV2, ResNet, SqueezeNet
from xpnet.training.step import forward_backward

# parameters as published with the papers or, to the last one, by the usual implementations
IMAGENET = {
    "alexnet": 60_965_224,
    "googlenet": 6_998_552,
    "mobilenet": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet": 1_248_424,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
CIFAR = {"resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962}
MNIST = {
    "deep_convnet": 123_552,
    "lenet": 44_426,
    "lenet_1998": 61_706,
    "simple_convnet": 433_890,
    "tiny_convnet": 15_770,
}


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [(n, (3, 224, 224), 1000, p) for n, p in IMAGENET.items()]
    + [(n, (3, 32, 32), 10, p) for n, p in CIFAR.items()]
    + [(n, (1, 28, 28), 10, p) for n, p in MNIST.items()],
)
def test_parameters_and_output_shape(name, shape, classes, parameters) -> None:
    model = models.by_name(name, classes)
    assert model.output_shape(shape) == (classes,)
    assert model.summary(shape).parameters == parameters


def test_every_model_is_in_the_table() -> None:
    assert set(models.names()) == {*IMAGENET, *CIFAR, *MNIST}


def test_multiply_adds_as_published() -> None:
    published = {"alexnet": 0.72e9, "vgg16": 15.5e9, "resnet18": 1.8e9, "resnet50": 4.1e9, "mobilenet": 569e6}
    for name, count in published.items():
        assert models.by_name(name, 1000).summary((3, 224, 224)).multiply_adds == pytest.approx(count, rel=0.02)


SMALL = {
    "resnet20": (lambda: ResNet(20), (3, 16, 16)),
    "resnet20 with projections": (lambda: ResNet(20, shortcut="B"), (3, 16, 16)),
    "resnet18": (lambda: ResNet(18, 10), (3, 32, 32)),
    "mobilenet": (lambda: MobileNet(10, width=0.25), (3, 32, 32)),
    "mobilenet v2": (lambda: MobileNetV2(10, width=0.25), (3, 32, 32)),
    "squeezenet": (lambda: SqueezeNet(10), (3, 48, 48)),
    "squeezenet 1.1": (lambda: SqueezeNet(10, version="1.1"), (3, 48, 48)),
    "googlenet": (lambda: GoogLeNet(10), (3, 32, 32)),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_step_lowers_the_loss_by_as_much_as_the_gradient_says(rng, name) -> None:
    make, shape = SMALL[name]
    with backend.using("numpy", dtype="float64"):
        model = make().build(shape, rng=0)
        x, t = rng.standard_normal((8, *shape)), rng.integers(0, 10, 8)
        loss = SoftmaxCrossEntropy()
        before, _ = forward_backward(model, loss, x, t)
        (segment,) = model.store.segments
        lr = 1e-5 * float(before) / float(segment.grad @ segment.grad)
        segment.data[...] = segment.data - lr * segment.grad
        model.load_random_state({path: 0 if path.endswith("step") else n for path, n in model.random_state().items()})
        after, _ = forward_backward(model, loss, x, t)
    assert float(before - after) == pytest.approx(1e-5 * float(before), rel=0.05)


@pytest.mark.parametrize("name", ["resnet20", "mobilenet v2"])
def test_gradients_of_the_first_blocks(rng, name) -> None:
    """Block by block of each kind; that of the whole network is checked above."""
    model, shape = SMALL[name][0](), (3, 12, 12)
    first = dict(list(model.children().items())[:6])
    assert sum(isinstance(layer, Residual) for layer in first.values()) >= 1
    with backend.using("numpy", dtype="float64"):
        short = Sequential(first | {"pool": GlobalPool2D(), "output": Dense(10)}).build(shape, rng=1)
        report = check_gradients(short, rng.standard_normal((2, *shape)), np.array([1, 3]), samples=1)
    assert report.passed, str(report)


def test_shortcut_a_takes_every_second_pixel_and_adds_zero_channels(rng) -> None:
    with backend.using("numpy"):
        model = ResNet(20).build((3, 16, 16))
        shortcut = model["block2_1"].shortcut
        x = rng.standard_normal((2, 16, 16, 16)).astype(np.float32)
        y = shortcut.predict(x)
    assert np.array_equal(y[:, :16], x[:, :, ::2, ::2])
    assert not y[:, 16:].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(21), "ResNet: depth must be one of 18, 20, 32, 34, 44, 50, 56, 101, 110, 152, got 21"),
        (lambda: ResNet(20, shortcut="C"), "ResNet: shortcut must be one of A, B, got 'C'"),
        (lambda: MobileNet(width=0), "MobileNet: width must be finite and above 0, got 0"),
        (lambda: MobileNetV2(width="x"), "MobileNetV2: width must be finite and above 0, got 'x'"),
        (lambda: VGG(12), "VGG: depth must be one of 11, 13, 16, 19, got 12"),
        (lambda: SqueezeNet(version="2"), "SqueezeNet: version must be one of 1.0, 1.1, got '2'"),
        (
            lambda: models.by_name("resnet21"),
            r"models: no model 'resnet21'; did you mean 'resnet18'\? There are alexnet",
        ),
    ],
)
def test_wrong_settings(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
