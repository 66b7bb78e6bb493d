"""Data kept on the device: the same batches as from the host, in values, types, places and layout in memory."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend
from xpnet.backend.memory import DeviceMemory, device_memory
from xpnet.data import Loader, augment
from xpnet.layers import Conv2D, Dense, Flatten, Sequential
from xpnet.training import Trainer

BACKENDS = ["numpy", "torch", "array_api_strict", "array_api_strict:device1", "cupy"]


@pytest.fixture(params=BACKENDS)
def name(request, needs_backend):
    needs_backend(request.param)
    return request.param


def images(rng, n=23, shape=(3, 5, 4), kind=np.uint8):
    return rng.integers(0, 200, (n, *shape)).astype(kind), rng.integers(0, 10, n)


def pair(x, t, **more):
    return [Loader(x, t, batch_size=5, on_device=on_device, **more) for on_device in (False, True)]


def strides(a):
    return a.stride() if hasattr(a, "stride") else getattr(a, "strides", None)


def assert_same_batches(loaders, passes=2):
    for _ in range(passes):
        host, device = map(list, loaders)
        assert len(host) == len(device) > 0
        for batches in zip(host, device, strict=True):
            for a, b in zip(*batches, strict=True):
                assert (a.dtype, backend.device_of(a)) == (b.dtype, backend.device_of(b))
                assert strides(a) == strides(b)
                np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b), strict=True)


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 6, 6), (4,), (2, 7), ()])
@pytest.mark.parametrize("more", [{}, {"scale": (0.5, -3.0)}, {"drop_last": True}, {"shuffle": False}], ids=str)
def test_bytes(name, rng, shape, more):
    with backend.using(name):
        assert_same_batches(pair(*images(rng, shape=shape), seed=4, **more))


@pytest.mark.parametrize("kind", ["int16", "float32", "float64", "float16", ">f4"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [None, (0.5, -3.0)])
def test_other_types(name, rng, kind, dtype, scale):
    x, _ = images(rng, kind=np.dtype(kind))
    t = rng.random((23, 4)).astype(np.float32)
    with backend.using(name, dtype=dtype):
        assert_same_batches(pair(x, t, scale=scale or (1.0, 0.0) if kind == "int16" else scale))


@pytest.mark.parametrize("library, dtype", [("numpy", "float16"), ("torch", "bfloat16")])
def test_half_floats(rng, library, dtype):
    pytest.importorskip(library)
    with backend.using(library, dtype=dtype):
        assert_same_batches(pair(*images(rng)))


def test_augmented_ahead_and_from_the_middle(name, rng):
    with backend.using(name):
        loaders = pair(*images(rng), augment=augment.parse("flip,crop:1"), prefetch=2)
        assert_same_batches(loaders)
        for loader in loaders:
            loader.epoch = 5
        rest = [[backend.to_numpy(x) for x, _ in loader.iterate(start=3)] for loader in loaders]
        assert len(rest[0]) == 2
        assert all(np.array_equal(a, b) for a, b in zip(*rest, strict=True))


def test_read_only_arrays(name, rng):
    x, t = images(rng)
    x.flags.writeable = t.flags.writeable = False
    with backend.using(name):
        assert_same_batches(pair(x, t))


def test_a_batch_may_be_changed(name, rng):
    """What a consumer does to its batch is not seen in the next epoch."""
    x, t = images(rng, kind=np.float32)
    with backend.using(name):
        host, device = pair(x, t)
        for bx, bt in device:
            bx[...] = 0.0
            bt[...] = 0
        list(host)
        assert_same_batches((host, device))


def test_sent_once_and_again_for_another_backend(rng):
    pytest.importorskip("array_api_strict")
    x, t = images(rng)
    loader = Loader(x, t, batch_size=23, shuffle=False, on_device=True)
    with backend.using("array_api_strict:device1"):
        list(loader)
        first = loader._resident[1]
        list(loader)
        assert loader._resident[1] is first
    with backend.using("array_api_strict:device2") as chosen:
        ((moved, _),) = loader
        assert backend.device_of(moved) == chosen.device
    np.testing.assert_array_equal(backend.to_numpy(moved), x.astype(np.float32) / np.float32(255))


def test_training_ends_in_the_same_weights(name, rng):
    x, t = images(rng, n=40, shape=(1, 6, 6))
    ends = []
    with backend.using(name):
        for loader in pair(x, t, seed=3):
            trainer = Trainer(Sequential(Conv2D(2, 3), Flatten(), Dense(10)))
            trainer.fit(loader, epochs=2, verbose=False)
            ends.append([backend.to_numpy(p.data) for p in trainer.model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))


# --- auto ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("free, stays", [(None, False), (4 * 1564 - 1, False), (4 * 1564, True)])
def test_auto_takes_a_quarter_of_the_free_memory(monkeypatch, rng, caplog, free, stays):
    x, t = images(rng)  # 1380 bytes of images and 184 of labels
    memory = None if free is None else DeviceMemory(1000, 1000 + free)
    monkeypatch.setattr("xpnet.data._resident.device_memory", lambda xp, device: memory)
    loader = Loader(x, t)
    with backend.using("numpy"), caplog.at_level("INFO", "xpnet"):
        list(loader)
        list(loader)
    assert (loader._resident[1] is not None) is stays
    assert caplog.text.count("stay on the host") == (free == 4 * 1564 - 1)  # said once


def test_auto_keeps_them_on_a_gpu_alone(name, rng):
    with backend.using(name) as chosen:
        memory = device_memory(chosen.xp, chosen.device)
        assert (memory is None) is (name != "cupy")
        loader = Loader(*images(rng))
        list(loader)
        assert (loader._resident[1] is None) is (name != "cupy")


def test_wrong_place(rng):
    with pytest.raises(ValueError, match="Loader: on_device is 'always'; give True, False or 'auto'"):
        Loader(*images(rng), on_device="always")
