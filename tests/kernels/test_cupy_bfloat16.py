"""Training in bfloat16 on CuPy without a GPU: the whole backend on a stand-in, the kernels from their CUDA sources.

Evidence of types, of values and of what meets what; none of how it behaves on a GPU, and none of its speed.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests import test_master_weights as masters
from tests.conftest import ArrayLibrary
from tests.data import test_augment_protocol
from tests.functional import test_contract
from tests.kernels.emulated_cupy import compiler, folder_of_kernels
from tests.kernels.fake_cupy import Array, Complete, complete
from tests.operations import CASES, Case
from tests.training import test_half
from xpnet import backend, config, data
from xpnet.data import Loader
from xpnet.io import load_weights, save_weights
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, GlobalPool2D, ReLU, Residual, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import LeNet
from xpnet.optim import Adam, Momentum
from xpnet.training import train_step

pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler, or not Linux")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    return Complete(folder_of_kernels(tmp_path_factory))


@pytest.fixture
def cupy(emulator):
    """The backend "cupy", for this test, selected with bfloat16."""
    with complete(emulator), backend.using("cupy", dtype="bfloat16") as chosen:
        yield chosen


def test_the_stand_in_keeps_device_and_host_apart(cupy):
    x = backend.asarray([1.0, 2.0])
    assert (type(x), x.dtype.name, cupy.device.id) == (Array, "bfloat16", 0)
    assert (x * 2.0).dtype == np.float32  # which is what the operations have to see to
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported type"):
        x + np.ones(2)


def test_what_comes_to_the_host_is_float32(cupy):
    values = np.array([1.0 + 2.0**-8, 3.0, -0.0, np.inf], np.float32)  # the first is half-way: to even
    host = backend.to_numpy(backend.asarray(values, dtype="bfloat16"))
    np.testing.assert_array_equal(host, np.array([1.0, 3.0, -0.0, np.inf], np.float32), strict=True)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kernels", ["auto", "agnostic"])
def test_operations(cupy, case: Case, kernels):
    """Types and values of every operation, by our kernels and by CuPy's own functions.

    The same numbers for all: where a sum rounds to the other side of zero, the gradient of relu is another.
    """
    rng = np.random.default_rng(1)
    with config.using(kernels=kernels):
        test_contract.check_float_type(ArrayLibrary("cupy", cupy), case, "bfloat16", rng)


@pytest.mark.parametrize("kind", masters.KINDS)
def test_master_weights(cupy, kind, rng):
    masters.test_the_weights_are_those_of_a_float32_model_rounded(("cupy", "bfloat16"), rng, kind)


@pytest.mark.parametrize("step", [2, 8])
@pytest.mark.usefixtures("cupy")
def test_resuming(tmp_path, rng, needs_backend, step):
    test_half.test_resuming_ends_bit_for_bit_where_the_whole_run_ends(
        tmp_path, rng, needs_backend, "cupy", "bfloat16", step
    )


@pytest.mark.usefixtures("cupy")
def test_weights_go_to_torch_and_back_bit_for_bit(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_weights(LeNet().build((1, 16, 16), rng=1), first)
    with backend.using("torch", dtype="bfloat16"):
        model = LeNet().build((1, 16, 16), rng=2)
        load_weights(model, first)
        save_weights(model, second)
    assert first.read_bytes() == second.read_bytes()
    model = LeNet().build((1, 16, 16), rng=3)
    load_weights(model, second)
    save_weights(model, first)
    assert first.read_bytes() == second.read_bytes()


def test_lenet_learns_as_in_float32(cupy):
    """Two epochs with Adam, loss and accuracy beside NumPy's in float32 and torch's in bfloat16."""
    pytest.importorskip("sklearn")
    digits, lenet = data.digits(upscale=2), lambda: LeNet(activation="relu")
    trainer = test_half.learn("cupy", "bfloat16", lenet, digits, samples=128, epochs=2)
    assert {p.data.dtype.name for p in trainer.model.parameters()} == {"bfloat16"}
    assert {a.dtype.name for n, a in trainer.optimizer.state_dict().items() if "." in n} == {"float32"}
    wide = test_half.learn("numpy", "float32", lenet, digits, samples=128, epochs=2).history
    assert trainer.history["loss"] == pytest.approx(wide["loss"], rel=0.01)
    assert trainer.history["accuracy"] == pytest.approx(wide["accuracy"], abs=0.06)
    if "torch" in {s.name for s in backend.available() if s.usable}:
        torch = test_half.learn("torch", "bfloat16", lenet, digits, samples=128, epochs=2).history
        assert trainer.history["loss"] == pytest.approx(torch["loss"], rel=0.01)


def small_residual():
    body = Sequential(Conv2D(6, 3, padding=1), BatchNorm(), ReLU(), Conv2D(6, 3, padding=1), BatchNorm())
    head = Sequential(GlobalPool2D(), Flatten(), Dropout(0.2), Dense(3))
    return Sequential(Conv2D(6, 3, padding=1), BatchNorm(), ReLU(), Residual(body), ReLU(), head)


def losses_of(library, dtype, x, t):
    """The losses of a few steps from the same weights, and that of the prediction after them."""
    with backend.using(library, dtype=dtype) as chosen:
        model, loss, optimizer = small_residual().build(x.shape[1:], rng=0), SoftmaxCrossEntropy(), Momentum(lr=0.1)
        x, t = backend.asarray(x, dtype=chosen.dtype), backend.asarray(t)
        losses = [float(train_step(model, loss, optimizer, x, t)) for _ in range(6)]
        y = model.predict(x)
        assert backend.dtype_name(y.dtype) == dtype
        return [*losses, float(loss.forward(y, t))]


def test_a_residual_network_learns_as_in_float32(cupy, rng):
    x, t = rng.standard_normal((8, 3, 8, 8)).astype(np.float32), np.arange(8) % 3
    x[np.arange(8), t] += 2.0
    narrow, wide = losses_of("cupy", "bfloat16", x, t), losses_of("numpy", "float32", x, t)
    assert wide[-1] < 0.7 * wide[0]
    assert narrow == pytest.approx(wide, rel=0.03)


def test_float_data_and_augmentation_keep_the_type(cupy, rng):
    """Batches of floats on their way through pinned memory, from resident data, and through every augmentation."""
    x, t = rng.standard_normal((6, 2, 8, 8)).astype(np.float32), rng.integers(0, 4, 6)
    for on_device in (True, False):
        for batch, labels in Loader(x, t, batch_size=4, on_device=on_device):
            assert (type(batch), batch.dtype.name, labels.dtype) == (Array, "bfloat16", np.int64)
    given, labels = backend.asarray(x, dtype="bfloat16"), backend.asarray(t)
    for change in test_augment_protocol.EACH:
        y, _ = change(given, labels, np.random.default_rng(0))
        expected, _ = change(backend.to_numpy(given), t, np.random.default_rng(0))
        assert y.dtype.name == "bfloat16", change
        np.testing.assert_allclose(backend.to_numpy(y), expected, atol=0.03, err_msg=str(change))


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("scale", [None, (0.03, -1.0)])
def test_bytes_become_what_float32_is_rounded_to(cupy, on_device, scale, rng):
    settings = {"batch_size": 4, "scale": scale, "on_device": on_device}
    x, t = rng.integers(0, 256, (6, 2, 8, 8)).astype(np.uint8), rng.integers(0, 4, 6)
    with backend.using("numpy", dtype="float32"):
        expected = [
            backend.to_numpy(batch).astype(cupy.dtype).astype(np.float32) for batch, _ in Loader(x, t, **settings)
        ]
    for (batch, _), wide in zip(Loader(x, t, **settings), expected, strict=True):
        assert batch.dtype.name == "bfloat16"
        np.testing.assert_array_equal(backend.to_numpy(batch), wide)


def test_adam_with_clipping_and_decay(cupy, rng):
    """The steps of `Adam` that work on all gradients together stay on the device and in float32."""
    model = Sequential(Flatten(), Dense(3)).build((1, 4, 4), rng=0)
    optimizer = Adam(lr=0.01, clip_norm=1.0, weight_decay=0.1)
    x, t = backend.asarray(rng.standard_normal((5, 1, 4, 4)), dtype="bfloat16"), backend.asarray(rng.integers(0, 3, 5))
    losses = [float(train_step(model, SoftmaxCrossEntropy(), optimizer, x, t)) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    assert optimizer.grad_norm.dtype == np.float32
