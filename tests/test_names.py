"""A name that is misspelt is met with the one that was meant, wherever things are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xpnet import backend, config, data, filters, init, losses, models, optim
from xpnet.data import augment
from xpnet.layers import Activation
from xpnet.text import near
from xpnet.training import metrics


@pytest.mark.parametrize(
    ("look_up", "meant"),
    [
        (lambda: optim.by_name("adan"), "adam"),
        (lambda: losses.by_name("softmax_crossentropy"), "softmax_cross_entropy"),
        (lambda: losses.by_name("squared_error"), "mean_squared_error"),
        (lambda: init.by_name("he-norm"), "he_normal"),
        (lambda: Activation("ReLU"), "relu"),
        (lambda: Activation("leaky_relu", slop=0.1), "slope"),
        (lambda: models.by_name("ResNet-20"), "resnet20"),
        (lambda: models.by_name("lenet", activaton="relu"), "activation"),
        (lambda: data.load("fashion"), "fashion_mnist"),
        (lambda: data.load("digits", upscael=4), "upscale"),
        (lambda: augment.parse("crop:4,flipp"), "flip"),
        (lambda: metrics.by_name("acuracy"), "accuracy"),
        (lambda: filters.kernel("sobelx"), "sobel_x"),
        (lambda: config.set(conv_workspce=1), "conv_workspace"),
        (lambda: config.get("kernel"), "kernels"),
        (lambda: backend.use("NumPy"), "numpy"),
        (lambda: backend.use("toch:cpu"), "torch"),
        (lambda: backend.use("numpy", dtype="flaot32"), "float32"),
    ],
)
def test_what_was_meant_is_said(look_up: Callable[[], object], meant: str) -> None:
    with pytest.raises(Exception, match=rf"did you mean '{meant}'\? (There are|It has) .*{meant}"):
        look_up()


def test_an_ending_of_several_names_may_mean_any_of_them() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'softmax_cross_entropy' or 'binary_cross_entropy'\?"):
        losses.by_name("cross_entropy")
    assert near("ReLU", ["leaky_relu", "relu"]) == "; did you mean 'relu'?"


def test_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("XPNET_BACKEND", "cuppy")
    with pytest.raises(backend.BackendUnavailableError, match=r"no backend 'cuppy'; did you mean 'cupy'\? There are"):
        backend.use()


def test_what_looks_like_nothing_is_no_guess() -> None:
    assert near("tiger", ["adam", "sgd"]) == ""
    with pytest.raises(ValueError, match=r"^optim: no optimizer 3; there are sgd, "):
        optim.by_name(3)  # type: ignore[arg-type]
