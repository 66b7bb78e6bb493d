"""Batches prepared ahead and augmented: the same ones, in the same order, and no thread that outlives its pass."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from xpnet import backend
from xpnet.data import Loader
from xpnet.data._prefetch import ahead

BACKENDS = ["numpy", "torch", "array_api_strict", "array_api_strict:device1"]
DEPTHS = [1, 2, 5]


@pytest.fixture(params=BACKENDS)
def name(request):
    pytest.importorskip(request.param.partition(":")[0])
    return request.param


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not workers()


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "xpnet-prefetch"]


def images(n=23):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 3, 5, 4), dtype=np.uint8), rng.integers(0, 10, n)


def jitter(x, t, rng):
    """A stand-in for an augmentation: shifts each image by a number of its own, turns labels into weights."""
    xp = backend.array_namespace(x)
    shift = backend.asarray_like(rng.standard_normal(x.shape[0]), x)
    weights = backend.asarray_like(rng.random((x.shape[0], 10)), x)
    return x + xp.reshape(shift, (-1, 1, 1, 1)), weights


def give_all(iterator):
    return [(backend.to_numpy(x), backend.to_numpy(t)) for x, t in iterator]


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for (ax, at), (bx, bt) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ax, bx, strict=True)
        np.testing.assert_array_equal(at, bt, strict=True)


# --- the same batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, jitter])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_same_batches_in_the_same_order(name, depth, augment):
    with backend.using(name) as chosen:
        plain = Loader(*images(), batch_size=4, seed=3, augment=augment, prefetch=0)
        threaded = Loader(*images(), batch_size=4, seed=3, augment=augment, prefetch=depth)
        for _ in range(2):
            expected = give_all(plain)
            batches = list(threaded)
            assert all(chosen.device in (None, backend.device_of(array)) for batch in batches for array in batch)
            assert_equal(give_all(batches), expected)
        assert threaded.epoch == plain.epoch == 2


def test_the_selection_of_a_block_holds_in_the_thread(name):
    seen = []

    def look(x, t, rng):
        seen.append((threading.current_thread().name, backend.get().name))
        return x, t

    with backend.using(name, dtype="float64"):
        iterator = iter(Loader(*images(), batch_size=12, augment=look, prefetch=1))
        first = next(iterator)
    rest = list(iterator)
    assert seen == [("xpnet-prefetch", name)] * 2
    assert {x.dtype for x, _ in [first, *rest]} == {first[0].dtype}
    assert backend.dtype_name(first[0].dtype) == "float64"


@pytest.mark.parametrize("augment", [None, jitter])
def test_by_default_a_thread_on_a_device_alone(monkeypatch, augment):
    pytest.importorskip("array_api_strict")
    started = []
    monkeypatch.setattr(
        threading.Thread, "start", lambda self, start=threading.Thread.start: started.append(start(self))
    )
    for name, count in [("array_api_strict", 0), ("array_api_strict:device1", 1)]:
        with backend.using(name):
            list(Loader(*images(), batch_size=12, augment=augment))
        assert len(started) == count


# --- augment -------------------------------------------------------------------------------------


def test_augment_is_given_scaled_floats_and_the_generator_of_the_batch(name):
    given = []

    def remember(x, t, rng):
        given.append((backend.to_numpy(x), rng.bit_generator.random_raw()))
        return x, t

    x, t = images()
    with backend.using(name):
        loader = Loader(x, t, batch_size=5, seed=7, shuffle=False, scale=(0.5, -1), augment=remember)
        loader.epoch = 4
        list(loader)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in given]), x.astype(np.float32) / 2 - 1, strict=True)
    key = np.array([7, 4], dtype=np.uint64)
    for number, (_, drawn) in enumerate(given):
        philox = np.random.Philox(key=key, counter=np.array([0, 0, number, 1], dtype=np.uint64))
        assert drawn == philox.random_raw()


def test_augment_may_write_into_what_it_is_given():
    x, t = images()
    before = x.copy(), t.copy()

    def wipe(x, t, rng):
        x *= 0
        t *= 0
        return x, t

    with backend.using("numpy"):
        for data in (x, x.astype(np.float32)):
            assert not any(bx.any() or bt.any() for bx, bt in Loader(data, t, batch_size=4, augment=wipe))
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(t, before[1])


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda x, t: x, r"returned \(\(23, 3, 5, 4\)\)"),
        (lambda x, t: None, r"returned \(NoneType\)"),
        (lambda x, t: (x, t, t), r"returned \(\(23, 3, 5, 4\), \(23,\), \(23,\)\)"),
        (lambda x, t: (x[:-1], t), r"returned \(\(22, 3, 5, 4\), \(23,\)\) for a batch of 23 samples"),
        (lambda x, t: (x, 3), r"returned \(\(23, 3, 5, 4\), int\)"),
    ],
)
def test_augment_that_returns_no_batch(result, match):
    with (
        backend.using("numpy"),
        pytest.raises(ValueError, match=rf"^Loader: augment .*{match}.*return a pair \(x, t\)"),
    ):
        list(Loader(*images(), augment=lambda x, t, rng: result(x, t)))


# --- iterate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_iterate_gives_the_tail_of_the_epoch(name, prefetch, drop_last):
    def loader():
        made = Loader(*images(), batch_size=5, seed=2, augment=jitter, drop_last=drop_last, prefetch=prefetch)
        made.epoch = 3
        return made

    with backend.using(name):
        whole = give_all(loader())
        for start in range(len(whole)):
            resumed = loader()
            assert_equal(give_all(resumed.iterate(start)), whole[start:])
            assert resumed.epoch == 4


@pytest.mark.parametrize("start", [-1, 5, 2**64, 1.0, True, None, "0"])
def test_iterate_from_where_nothing_is(start):
    loader = Loader(*images(), batch_size=5)
    with pytest.raises(ValueError, match=r"^Loader: start is .* 0 to 4"):
        loader.iterate(start)
    assert loader.epoch == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [({"prefetch": -1}, "prefetch is -1"), ({"prefetch": 1.5}, "prefetch is 1.5"), ({"augment": 3}, "augment is 3")],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=rf"^Loader: {match}.*give a"):
        Loader(*images(), **options)


# --- the thread ----------------------------------------------------------------------------------


def made_by(log, *, fail_at=None):
    def make(number):
        log.append(number)
        if number == fail_at:
            raise LookupError(f"number {number}")
        return number

    return make


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_more_than_so_many_are_made_ahead(depth):
    log = []
    iterator = ahead(made_by(log), range(20), depth)
    assert log == []  # and no thread before the first is asked for
    assert not workers()
    for taken in range(1, 4):
        assert next(iterator) == taken - 1
        wait_until(lambda: len(log) == taken + depth)
        time.sleep(0.01)
        assert len(log) == taken + depth
    assert list(iterator) == list(range(3, 20))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("fail_at", [0, 3, 9])
def test_an_error_comes_out_in_its_place(depth, fail_at):
    log, seen = [], []
    with pytest.raises(LookupError, match=f"number {fail_at}") as caught:
        seen.extend(ahead(made_by(log, fail_at=fail_at), range(10), depth))
    assert log == list(range(fail_at + 1))
    assert "make" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not workers()


def test_an_error_in_augment_is_the_original_one_and_ends_the_pass():
    def fail(x, t, rng):
        raise ZeroDivisionError("of its own")

    loader = Loader(*images(), batch_size=5, augment=fail, prefetch=2)
    with backend.using("numpy"), pytest.raises(ZeroDivisionError, match=r"^of its own$"):
        next(iter(loader))
    assert loader.epoch == 1


def test_a_pass_that_is_left_ends_its_thread_at_once():
    loader = Loader(*images(), batch_size=2, augment=jitter, prefetch=2)
    with backend.using("numpy"):
        for _ in loader:
            assert len(workers()) == 1
            break
        assert not workers()

        def fail():
            for _ in loader:
                raise KeyError("in the loop")

        with pytest.raises(KeyError):
            fail()
        assert not workers()
        iterator = iter(loader)
        next(iterator)
        iterator.close()
        assert not workers()
        iterator = iter(loader)
        next(iterator)
        del iterator
        assert not workers()
        assert loader.epoch == 4


def test_a_pass_in_a_cycle_is_ended_by_the_garbage_collector():
    holder = {"pass": ahead(made_by([]), range(100), 2)}
    holder["self"] = holder
    next(holder["pass"])
    assert len(workers()) == 1
    del holder
    gc.collect()
    assert not workers()


def test_two_passes_at_once_do_not_mix():
    with backend.using("numpy"):
        a, b = (Loader(*images(), batch_size=3, seed=seed, augment=jitter, prefetch=2) for seed in (1, 2))
        pairs = list(zip(a, b, strict=True))
        for found, seed in zip(zip(*pairs, strict=True), (1, 2), strict=True):
            assert_equal(found, give_all(Loader(*images(), batch_size=3, seed=seed, augment=jitter, prefetch=0)))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot send a signal to a thread")
def test_control_c_while_waiting_for_a_batch():
    waiting, go_on = threading.Event(), threading.Event()

    def make(number):
        waiting.set()
        go_on.wait(60)
        return number

    def interrupt():
        waiting.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)
        go_on.set()  # what is being made is finished, and no more

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        list(ahead(make, range(5), 2))
    helper.join()
    assert not workers()


def test_a_thread_that_is_gone_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("xpnet.data._prefetch._Worker._run", lambda *args: None)  # as after a fork
    monkeypatch.setattr("xpnet.data._prefetch._PATIENCE", 0.01)
    with pytest.raises(RuntimeError, match="is gone"):
        next(ahead(made_by([]), range(3), 2))


EXIT = """
import time
from xpnet.data._prefetch import ahead
held = ahead(lambda number: time.sleep(0.005) or number, range(10**9), 2)
print(next(held), flush=True)
"""


def test_a_pass_still_held_does_not_keep_the_interpreter():
    done = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
