"""The loader: which samples, in which order, with which values, on which backend, lying how in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xpnet import backend
from xpnet.data import Loader

BACKENDS = ["numpy", "torch", "array_api_strict", "array_api_strict:device1"]


@pytest.fixture(params=BACKENDS)
def name(request):
    pytest.importorskip(request.param.partition(":")[0])
    return request.param


def images(n=23, shape=(3, 5, 4), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n)


def epoch_of(loader, name="numpy", dtype=None):
    with backend.using(name, dtype=dtype):
        return [(backend.to_numpy(x), backend.to_numpy(t)) for x, t in loader]


def order_of(loader, name="numpy"):
    return np.concatenate([t for _, t in epoch_of(loader, name)]).tolist()


# --- values and types ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 1), (6,), (2, 7), ()])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
def test_batches(name, shape, batch_size):
    x, t = images(shape=shape)
    order = np.random.Generator(np.random.Philox(key=[7, 0])).permutation(23)
    with backend.using(name) as chosen:
        batches = list(Loader(x, t, batch_size=batch_size, seed=7))
        assert len(batches) == -(-23 // batch_size)
        for k, (bx, bt) in enumerate(batches):
            rows = order[k * batch_size : (k + 1) * batch_size]
            assert backend.array_namespace(bx) is backend.array_namespace(bt)
            assert backend.array_namespace(bx) is backend.array_namespace(backend.asarray(1.0))
            assert bx.dtype == chosen.xp.float32
            assert bt.dtype == chosen.xp.int64
            if chosen.device is not None:
                assert backend.device_of(bx) == backend.device_of(bt) == chosen.device
            expected = x[rows].astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(backend.to_numpy(bx), expected, strict=True)
            np.testing.assert_array_equal(backend.to_numpy(bt), t[rows], strict=True)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.uint16, np.bool_, np.float32, np.float64])
def test_scale(name, kind):
    x = np.random.default_rng(1).integers(0, 200, (9, 2, 3, 3)).astype(kind)
    ((bx, _),) = epoch_of(Loader(x, np.arange(9), shuffle=False, scale=(0.5, -3)), name)
    np.testing.assert_array_equal(bx, x.astype(np.float32) * np.float32(0.5) - np.float32(3), strict=True)


@pytest.mark.parametrize("shape", [(2, 3, 3), (4,)])
def test_floats_are_left_as_they_are(name, shape):
    x = np.random.default_rng(1).normal(size=(9, *shape))
    for kind in (np.float64, np.float32, ">f4"):
        ((bx, _),) = epoch_of(Loader(x.astype(kind), np.arange(9), shuffle=False), name)
        np.testing.assert_array_equal(bx, x.astype(np.float32), strict=True)


def test_float64_stays_float64_where_that_is_the_type(name):
    x, targets = np.random.default_rng(1).normal(size=(2, 9, 1, 3, 3))
    ((bx, bt),) = epoch_of(Loader(x, targets.reshape(9, 9), shuffle=False), name, dtype="float64")
    np.testing.assert_array_equal(bx, x, strict=True)
    np.testing.assert_array_equal(bt, targets.reshape(9, 9), strict=True)
    pixels, t = images()
    ((bx, bt),) = epoch_of(Loader(pixels, t, shuffle=False), name, dtype="float64")
    assert bx.dtype == np.float64
    assert bt.dtype == np.int64
    np.testing.assert_array_equal(bx, (pixels.astype(np.float32) / np.float32(255)).astype(np.float64))


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_dtype_overrides_that_of_the_backend(dtype):
    x, t = images()
    ((bx, bt),) = epoch_of(Loader(x, np.eye(10)[t], shuffle=False, dtype=dtype))
    assert bx.dtype == bt.dtype == np.float16
    np.testing.assert_allclose(bx, x / 255, rtol=1e-3)


def test_bfloat16_on_torch():
    torch = pytest.importorskip("torch")
    x, t = images()
    with backend.using("torch"):
        ((bx, _),) = Loader(x, t, shuffle=False, dtype=torch.bfloat16)
    assert bx.dtype == torch.bfloat16
    np.testing.assert_allclose(backend.to_numpy(bx), x / 255, rtol=1e-2)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_float_targets(name, kind):
    x, t = images()
    targets = np.eye(10, dtype=kind)[t]
    with backend.using(name) as chosen:
        ((_, bt),) = Loader(x, targets, shuffle=False)
        assert bt.dtype == chosen.xp.float32
        np.testing.assert_array_equal(backend.to_numpy(bt), targets.astype(np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_type(name, kind):
    x, t = images()
    ((_, bt),) = epoch_of(Loader(x, t.astype(kind), shuffle=False), name)
    np.testing.assert_array_equal(bt, t.astype(np.int64), strict=True)


def test_arrays_of_another_library():
    torch = pytest.importorskip("torch")
    x, t = images()
    from_torch = Loader(torch.from_numpy(x), torch.from_numpy(t), seed=3)
    for (ax, at), (bx, bt) in zip(epoch_of(from_torch), epoch_of(Loader(x, t, seed=3)), strict=True):
        np.testing.assert_array_equal(ax, bx, strict=True)
        np.testing.assert_array_equal(at, bt, strict=True)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 3), (1, 1, 1), (4,)])
@pytest.mark.parametrize("batch_size", [1, 9])
def test_a_batch_is_no_alias_of_the_data(name, shuffle, shape, batch_size):
    x = np.random.default_rng(1).normal(size=(9, *shape)).astype(np.float32)
    targets = x.reshape(9, -1).copy()
    before = x.copy()
    with backend.using(name):
        for bx, bt in Loader(x, targets, batch_size=batch_size, shuffle=shuffle):
            bx *= 0
            bt *= 0
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(targets, before.reshape(9, -1))


def test_read_only_and_strided_input(name):
    x, t = images(n=40)
    expected = epoch_of(Loader(x[::2].copy(), t[::2].copy()), name)
    strided, labels = x.transpose(1, 2, 3, 0).copy().transpose(3, 0, 1, 2)[::2], t[::2]
    strided.flags.writeable = labels.flags.writeable = False
    for (ax, at), (bx, bt) in zip(epoch_of(Loader(strided, labels), name), expected, strict=True):
        np.testing.assert_array_equal(ax, bx)
        np.testing.assert_array_equal(at, bt)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("library, order", [("numpy", (1, 2, 3, 0)), ("torch", (0, 2, 3, 1))])
def test_images_lie_in_memory_as_the_kernels_of_the_library_like_them(library, order, kind):
    """The batch innermost, and on torch the channels."""
    pytest.importorskip(library)
    x = images(n=70)[0].astype(kind)
    with backend.using(library) as chosen:
        for bx, _ in Loader(x, np.arange(70), batch_size=50):
            assert tuple(bx.shape[1:]) == (3, 5, 4)
            below = chosen.xp.permute_dims(bx, order)
            assert below.flags.c_contiguous if library == "numpy" else below.is_contiguous()


# --- order and epochs ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5, 2**64 - 1])
def test_order_is_that_of_philox(name, seed):
    loader = Loader(np.zeros((50, 1), np.uint8), np.arange(50), batch_size=7, seed=seed)
    for epoch in range(3):
        key = np.array([seed, epoch], dtype=np.uint64)
        expected = np.random.Generator(np.random.Philox(key=key)).permutation(50)
        assert loader.epoch == epoch
        assert order_of(loader, name) == expected.tolist()


def test_orders_differ_and_can_be_replayed():
    loader = Loader(np.zeros((50, 1), np.uint8), np.arange(50), seed=1)
    epochs = [order_of(loader) for _ in range(4)]
    for a, b in itertools.combinations(epochs, 2):
        assert a != b
        assert sorted(a) == sorted(b) == list(range(50))
    loader.epoch = 2
    assert order_of(loader) == epochs[2]
    assert order_of(loader) == epochs[3]
    assert order_of(Loader(np.zeros((50, 1), np.uint8), np.arange(50), seed=2)) != epochs[0]


def test_an_abandoned_pass_counts_and_one_not_begun_does_not():
    loader = Loader(*images(), batch_size=5)
    with backend.using("numpy"):
        for _ in loader:
            assert loader.epoch == 0
            break
        assert loader.epoch == 1
        iterator = iter(loader)
        del iterator
        assert loader.epoch == 1

        def fail():
            for _ in loader:
                raise RuntimeError("training stopped")

        with pytest.raises(RuntimeError):
            fail()
        assert loader.epoch == 2


def test_an_epoch_set_during_a_pass_stands():
    loader = Loader(*images(), batch_size=5)
    with backend.using("numpy"):
        for _ in loader:
            loader.epoch = 9
        assert loader.epoch == 9


def test_the_backend_is_chosen_at_each_pass():
    pytest.importorskip("array_api_strict")
    loader = Loader(*images())
    kinds = []
    for library in ("numpy", "array_api_strict", "numpy"):
        with backend.using(library):
            kinds += [type(x).__module__.partition(".")[0] for x, _ in loader]
    assert kinds == ["numpy", "array_api_strict", "numpy"]


@pytest.mark.parametrize("targets", [np.arange(23), np.ones((23, 2))])
def test_a_pass_keeps_the_backend_it_began_with(targets):
    pytest.importorskip("array_api_strict")
    iterator = iter(Loader(images()[0], targets, batch_size=5))
    with backend.using("array_api_strict"):
        first = next(iterator)
    with backend.using("numpy"):
        rest = list(iterator)
    assert {type(array) for batch in [first, *rest] for array in batch} == {type(first[0])}
    assert type(first[0]).__module__.startswith("array_api_strict")


def test_no_shuffle():
    loader = Loader(np.zeros((10, 1), np.uint8), np.arange(10), batch_size=3, shuffle=False)
    assert order_of(loader) == order_of(loader) == list(range(10))
    assert loader.epoch == 2


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "sizes"),
    [
        (10, 3, False, [3, 3, 3, 1]),
        (10, 3, True, [3, 3, 3]),
        (9, 3, False, [3, 3, 3]),
        (9, 3, True, [3, 3, 3]),
        (2, 3, False, [2]),
        (3, 3, True, [3]),
        (3, np.int64(1), False, [1, 1, 1]),
    ],
)
def test_sizes(n, batch_size, drop_last, sizes):
    loader = Loader(np.zeros((n, 2), np.uint8), np.arange(n), batch_size=batch_size, drop_last=drop_last)
    assert [len(t) for _, t in epoch_of(loader)] == sizes
    assert len(loader) == len(sizes)
    assert loader.samples == sum(sizes)
    assert f"{n} samples of (2,) uint8" in repr(loader)


# --- refusals ------------------------------------------------------------------------------------

X, T = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("x", "t", "options", "match"),
    [
        (X, T[:3], {}, r"x has shape \(4, 1, 2, 2\) but t has shape \(3,\)"),
        (np.array(3, np.uint8), T, {}, "one entry per sample"),
        (X[:0], T[:0], {}, "nothing to load"),
        (X[:, :0], T, {}, "nothing to load"),
        (X, T, {"batch_size": 0}, "batch_size is 0"),
        (X, T, {"batch_size": -3}, "batch_size is -3"),
        (X, T, {"batch_size": 2.0}, r"batch_size is 2.0 \(float\)"),
        (X, T, {"batch_size": True}, "batch_size is True"),
        (X, T, {"batch_size": "8"}, "batch_size is '8'"),
        (X, T, {"batch_size": 5, "drop_last": True}, "leave nothing of 4 samples"),
        (X, T, {"seed": -1}, "seed is -1"),
        (X, T, {"seed": 2**64}, "seed is 18446744073709551616"),
        (X, T.astype(float), {}, r"t has shape \(4,\) and type float64"),
        (X, T > 1, {}, "type bool"),
        (X, T.reshape(4, 1), {}, r"t has shape \(4, 1\) and type int64"),
        (X, np.zeros((4, 1, 1)), {}, r"t has shape \(4, 1, 1\)"),
        (X, np.array(list("abcd")), {}, "t has shape"),
        (X.astype(np.int32), T, {}, "x is int32; .*scale"),
        (X.astype(bool), T, {}, "x is bool"),
        (X.astype(np.complex64), T, {"scale": (1, 0)}, "x is complex64"),
        (X.astype(str), T, {"scale": (1, 0)}, "x is <U"),
        (X, T, {"scale": 0.5}, "scale is 0.5"),
        (X, T, {"scale": (1, 2, 3)}, r"scale is \(1, 2, 3\)"),
        (X, T, {"scale": (float("nan"), 0)}, "scale is"),
        (X, T, {"dtype": "int8"}, "dtype is 'int8'; choose from float32"),
    ],
)
def test_refusals(x, t, options, match):
    with pytest.raises(ValueError, match=rf"Loader: .*{match}"):
        Loader(x, t, **options)


@pytest.mark.parametrize("epoch", [-1, 1.5, None])
def test_an_epoch_that_is_none(epoch):
    loader = Loader(X, T)
    loader.epoch = epoch
    with pytest.raises(ValueError, match="epoch is"):
        epoch_of(loader)
