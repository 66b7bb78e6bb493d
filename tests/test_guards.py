"""The NaN guard and the deterministic switch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from xpnet import backend, config
from xpnet.backend import loaders
from xpnet.errors import NonFiniteError
from xpnet.layers import Activation, Add, Conv2D, Dense, Flatten, Layer, Residual, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import SGD
from xpnet.training import train_step


class Breaks(Layer):
    """Puts a NaN into one row of its output or of its gradient."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def _spoil(self, x, when: str):
        if when != self.when:
            return x
        xp = backend.array_namespace(x)
        row = xp.arange(x.shape[0], device=backend.device_of(x)) == 1
        mask = xp.reshape(row, (x.shape[0],) + (1,) * (len(x.shape) - 1))
        return xp.where(mask, float("nan"), x)

    def _forward(self, x, train):
        return self._spoil(x, "forward"), None

    def _backward(self, dy, ctx, need_dx):
        return self._spoil(dy, "backward") if need_dx else None


def model_that_breaks(when: str) -> Sequential:
    block = Sequential({"conv": Conv2D(2, 3, padding=1), "bad": Breaks(when), "relu": Activation("sigmoid")})
    return Sequential({"in": Conv2D(2, 1), "block": Residual(block), "flat": Flatten(), "out": Dense(3)})


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_the_first_layer_that_breaks_is_named(xp, rng, when) -> None:
    x, t = xp.asarray(rng.standard_normal((4, 1, 5, 5)).astype(np.float32)), xp.asarray(rng.integers(0, 3, 4))
    model = model_that_breaks(when).build((1, 5, 5), rng=1)
    what = "the output" if when == "forward" else "the gradient of x"
    expected = rf'Breaks \(layer "block\.body\.bad"\): in {when}, {what} holds 50 values .* first in row 1'
    with config.using(nan_guard=True), pytest.raises(NonFiniteError, match=expected):
        train_step(model, SoftmaxCrossEntropy(), SGD(), x, t)
    assert not any(layer._pending for _, layer in model.named_layers())


def test_without_the_guard_nobody_looks(rng) -> None:
    x = rng.standard_normal((4, 1, 5, 5)).astype(np.float32)
    with backend.using("numpy"):
        assert np.isnan(model_that_breaks("forward").predict(x)).any()


def test_a_sound_model_passes_and_inference_is_guarded_too(rng) -> None:
    x, t = rng.standard_normal((4, 1, 5, 5)).astype(np.float32), rng.integers(0, 3, 4)
    with backend.using("numpy"), config.using(nan_guard=True):
        train_step(model_that_breaks("never").build((1, 5, 5)), SoftmaxCrossEntropy(), SGD(), x, t)
        with pytest.raises(NonFiniteError, match=r'layer "block\.body\.bad"'):
            model_that_breaks("forward").predict(x)


def test_the_merge_of_branches_is_guarded(rng) -> None:
    big = np.full((2, 3), 3e38, np.float32)
    model = Sequential({"sum": Add(Activation("identity"), Activation("identity"))})
    with (
        backend.using("numpy"),
        config.using(nan_guard=True),
        np.errstate(over="ignore"),
        pytest.raises(NonFiniteError, match=r'Add \(layer "sum"\): in forward, the output holds 6 values'),
    ):
        model.forward(big)
    assert not any(layer._pending for _, layer in model.named_layers())


def test_a_gradient_of_a_parameter_that_overflows_is_found(rng) -> None:
    model = Sequential({"dense": Dense(2)}).build((3,))
    model.forward(np.full((4, 3), 1e30, np.float32))
    with (
        config.using(nan_guard=True),
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(NonFiniteError, match=r'Dense \(layer "dense"\): in backward, the gradient of W holds 6 values'),
    ):
        model.backward(np.full((4, 2), 1e30, np.float32), need_dx=False)


def test_deterministic_reaches_torch_and_goes_back() -> None:
    torch = pytest.importorskip("torch")
    with backend.using("torch"):
        assert not torch.are_deterministic_algorithms_enabled()
        with config.using(deterministic=True):
            assert torch.are_deterministic_algorithms_enabled()
        assert not torch.are_deterministic_algorithms_enabled()


def test_tf32_reaches_torch_and_goes_back(monkeypatch) -> None:
    """At a change, and when a GPU is chosen: torch's own default is TF32 in convolutions."""
    torch = pytest.importorskip("torch")
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [f.allow_tf32 for f in flags]
    try:
        with config.using(allow_tf32=True):
            assert [f.allow_tf32 for f in flags] == [True, True]
        assert [f.allow_tf32 for f in flags] == [False, False]
        torch.backends.cudnn.allow_tf32 = True
        on_gpu = SimpleNamespace(device=torch.device("cuda:0"))
        monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: on_gpu)
        assert loaders.LOADERS["torch"]("cuda")[1].type == "cuda"
        assert [f.allow_tf32 for f in flags] == [False, False]
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


@pytest.mark.parametrize("name", ["nan_guard", "deterministic", "allow_tf32"])
def test_switches_by_environment_and_by_call(monkeypatch, name) -> None:
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.setenv(f"XPNET_{name.upper()}", "1")
    assert config.get(name) is True
    config.set(**{name: False})
    assert config.get(name) is False
    with pytest.raises(ValueError, match=f"config.set: {name}: expected 1 or 0, got 'maybe'"):
        config.set(**{name: "maybe"})


def test_the_same_run_twice_gives_the_same_bits(xp, rng) -> None:
    x, t = xp.asarray(rng.standard_normal((8, 1, 5, 5)).astype(np.float32)), xp.asarray(rng.integers(0, 3, 8))

    def weights() -> list[np.ndarray]:
        model, optimizer = model_that_breaks("never").build((1, 5, 5), rng=1), SGD(lr=0.1)
        for _ in range(5):
            train_step(model, SoftmaxCrossEntropy(), optimizer, x, t)
        return [xp.to_numpy(p.data) for p in model.parameters()]

    with config.using(deterministic=True):
        assert all(np.array_equal(a, b) for a, b in zip(weights(), weights(), strict=True))
