"""Recipes in small on the real MNIST, where XPNET_DATA has it."""

from __future__ import annotations

import pytest

from xpnet import backend, data
from xpnet.errors import DataError
from xpnet.models import LeNet, SimpleConvNet
from xpnet.optim import Adam
from xpnet.training import Trainer


@pytest.fixture(scope="module")
def mnist() -> data.Dataset:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XPNET_OFFLINE", "1")
            return data.mnist().limit(4000, 2000)
    except DataError:
        pytest.skip("no MNIST under XPNET_DATA or in the cache")


@pytest.mark.parametrize(
    ("make", "low", "expected"),
    [
        (lambda: LeNet(activation="relu"), -1.0, 0.92),
        (lambda: LeNet(activation="tanh", variant="1998"), -1.0, 0.90),
        (SimpleConvNet, 0.0, 0.88),
    ],
    ids=["lenet relu", "lenet 1998", "simple_convnet"],
)
def test_three_epochs_of_four_thousand_images(mnist, make, low, expected) -> None:
    images = mnist.scaled(low, 1.0)
    with backend.using("numpy"):
        model = make().build(images.input_shape, rng=0)
        history = Trainer(model, optimizer=Adam(lr=0.002)).fit(images.train, images.test, epochs=3, verbose=False)
    assert history["validation_accuracy"][-1] > expected
