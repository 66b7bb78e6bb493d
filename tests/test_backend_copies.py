"""Asynchronous copies for CuPy without a GPU: streams and events that run their work late and in any order allowed.

The order is chosen by chance and kept to what events ask for, so memory that is written too early gives a wrong batch.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from xpnet import backend
from xpnet.backend import limits
from xpnet.backend.copies import Copies, PinnedCopies, copies_to
from xpnet.data import Loader
from xpnet.kernels import table


class Machine:
    """Two streams, of which each runs its work in order, and both some time later."""

    def __init__(self, rng, ignored=()):
        self.rng, self.ignored = rng, ignored
        self.streams, self.favour = [], rng.random()
        self.current = Stream(self)

    def run_some(self):
        """Let time go by: mostly none, sometimes much, so that work piles up and one stream gets ahead."""
        for _ in range(self.rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 3, 12])):
            ready = [s for s in self.streams if s.queue and s.queue[0][0]()]
            if not ready:
                return
            self.run_one(ready[0 if self.rng.random() < self.favour else -1])

    def run_one(self, stream):
        stream.queue.pop(0)[1]()

    def run_until(self, done):
        while not done():
            ready = [s for s in self.streams if s.queue and s.queue[0][0]()]
            assert ready, "streams wait for each other"
            self.run_one(ready[self.rng.integers(len(ready))])


class Stream:
    def __init__(self, machine, non_blocking=True):
        assert non_blocking
        self.machine, self.queue = machine, []  # of (whether it may run, what it does)
        machine.streams.append(self)

    def do(self, work, ready=lambda: True):
        self.queue.append((ready, work))
        self.machine.run_some()

    def wait_event(self, event):
        if ("wait", self is self.machine.current) in self.machine.ignored:
            return
        recorded = event.recorded
        self.do(lambda: None, lambda: event.reached >= recorded)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Event:
    def __init__(self, machine, disable_timing=False):
        assert disable_timing  # events that keep the time are slower
        self.machine, self.recorded, self.reached = machine, 0, 0

    def record(self, stream):
        self.recorded += 1
        number = self.recorded

        def reach():
            self.reached = number

        stream.do(reach)

    def synchronize(self):
        if "synchronize" not in self.machine.ignored:
            self.machine.run_until(lambda: self.reached >= self.recorded)


class DeviceArray(np.ndarray):
    """As much of a CuPy array as a batch in the making needs; an operation on one is done at once."""

    def set(self, host, stream):
        assert host.nbytes == self.nbytes
        stream.do(lambda: np.copyto(np.asarray(self), host))


def install(monkeypatch, machine):
    """Put the machine in CuPy's place; return what the memory that `empty` gives was last used for."""
    old = []

    def empty(shape, dtype):
        block = np.full(shape, 77, dtype).view(DeviceArray)
        if "late reader" not in machine.ignored:
            machine.current.do(lambda: old.append(np.array(block)))  # a kernel sent before that still reads it
        return block

    class Device:
        id = 0

        def use(self):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.empty, cupy.is_available, cupy.__version__ = empty, lambda: True, "14.2.0"
    cupy._core = types.SimpleNamespace(set_compute_type=lambda dtype, kind: None)
    pool = types.SimpleNamespace(total_bytes=lambda: 0, used_bytes=lambda: 0, get_limit=lambda: 0)
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = types.SimpleNamespace(
        Stream=lambda non_blocking: Stream(machine, non_blocking),
        Event=lambda disable_timing: Event(machine, disable_timing),
        get_current_stream=lambda: machine.current,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (0, 0)),
        Device=lambda index=0: Device(),
    )
    monkeypatch.setattr(limits, "_in_use", [])
    cupyx.empty_pinned = lambda shape, dtype: np.full(shape, 99, dtype)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    return types.SimpleNamespace(xp=None, device=Device(), old=old)


def send_batches(machine, chosen, rng, batches=20):
    """Send batches of several sizes; return what arrived of each, and what was sent."""
    copies, sent, arrived = PinnedCopies(chosen), [], []
    for _ in range(batches):
        shape, dtype = (int(rng.integers(1, 5)), 3), rng.choice(["uint8", "float32"])
        values = rng.integers(0, 70, shape).astype(dtype)
        with copies.staging(shape, dtype) as (host, send):
            host[...] = values
            x = send()
            assert (x.shape, x.dtype) == (shape, dtype)
            machine.current.do(lambda x=x: arrived.append(np.array(x)))  # the kernel that makes floats of it
        sent.append(values)
    copies.close()
    machine.run_until(lambda: not any(s.queue for s in machine.streams))
    return sent, arrived


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_every_batch_arrives_whatever_the_order(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    machine = Machine(rng)
    chosen = install(monkeypatch, machine)
    sent, arrived = send_batches(machine, chosen, rng)
    assert equal(sent, arrived)
    assert chosen.old
    assert all((block == 77).all() for block in chosen.old)  # nobody's memory was written too early


@pytest.mark.parametrize("ignored", ["synchronize", ("wait", True), ("wait", False)], ids=str)
def test_the_machine_notices_what_is_not_waited_for(monkeypatch, ignored):
    """Without one of the three waits batches go wrong."""
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        machine = Machine(rng, ignored=(ignored,))
        wrong += not equal(*send_batches(machine, install(monkeypatch, machine), rng))
    assert wrong > 5


def test_closing_waits_for_the_copies(monkeypatch):
    machine = Machine(np.random.default_rng(0))
    copies = PinnedCopies(install(monkeypatch, machine))
    machine.run_some = lambda: None
    with copies.staging((4,), np.uint8) as (host, send):
        send()
    slot = copies._slots[0]
    assert slot.copied.reached == 0
    copies.close()
    assert slot.copied.reached == 1


def test_in_every_library(xp):
    chosen = backend.get()
    copies = copies_to(chosen)
    assert type(copies) is (PinnedCopies if xp.name == "cupy" else Copies)
    for number in range(5):
        with copies.staging((2, 3), "float32") as (host, send):
            host[...] = number
            x = send()
            assert backend.array_namespace(x) is chosen.xp
            assert (xp.to_numpy(x) == number).all()
    copies.close()


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_the_loader_uses_them(monkeypatch, rng, prefetch, kind):
    """With NumPy's functions in place of CuPy's, at work at once: so the machine must have copied by then."""

    class Prompt(Machine):
        def run_some(self):
            self.run_until(lambda: not any(s.queue and s.queue[0][0]() for s in self.streams))

    install(monkeypatch, Prompt(rng, ignored=("late reader",)))
    import array_api_compat.numpy as compat

    namespace = types.ModuleType("array_api_compat.cupy")
    namespace.__getattr__ = lambda name: getattr(compat, name)
    namespace.empty = lambda shape, dtype=None, device=None: np.empty(shape, dtype)
    namespace.asarray = lambda x, dtype=None, device=None, copy=None: np.array(x, dtype)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    monkeypatch.setattr("array_api_compat.cupy", namespace, raising=False)
    monkeypatch.setattr(backend.selection, "LOADERS", dict(backend.selection.LOADERS))
    monkeypatch.setattr(backend.namespaces, "_NAMESPACES", dict(backend.namespaces._NAMESPACES))
    monkeypatch.setattr("xpnet.data._batches.find", lambda name, xp: table._TABLE["agnostic", name])
    x, t = rng.integers(0, 256, (23, 2, 3, 3)).astype(kind), rng.integers(0, 10, 23)
    with backend.using("numpy"):
        expected = list(Loader(x, t, batch_size=4))
    with backend.using("cupy"):
        found = list(Loader(x, t, batch_size=4, prefetch=prefetch))
    for (a, ta), (b, tb) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(ta, tb)
        assert a.strides == b.strides
