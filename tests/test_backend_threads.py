"""What a thread is told to work on: stand-ins for CuPy and torch that keep device and stream per thread, as they do."""

from __future__ import annotations

import sys
import threading
import types

import pytest

from xpnet import backend

here = threading.local()


class Block:
    """A device or a stream: in force in this thread while its block lasts."""

    def __init__(self, kind, name):
        self.kind, self.name, self.former = kind, name, []

    def __enter__(self):
        self.former.append(getattr(here, self.kind, None))
        setattr(here, self.kind, self.name)

    def __exit__(self, *_):
        setattr(here, self.kind, self.former.pop())

    def use(self):
        setattr(here, self.kind, self.name)


def chosen(library, device):
    return backend.Backend(f"{library}:1", types.ModuleType(f"array_api_compat.{library}"), device, None)


@pytest.fixture
def streams():
    """The streams of this thread: one on device 1, another elsewhere."""
    here.device = here.stream = None
    return {"gpu1": Block("stream", "mine"), None: Block("stream", "another")}


def in_a_thread(block):
    seen = []

    def look():
        with block():
            seen.append((getattr(here, "device", None), getattr(here, "stream", None)))
        seen.append((getattr(here, "device", None), getattr(here, "stream", None)))

    for _ in range(2):  # a fresh block each time
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    return seen


def test_cupy(monkeypatch, streams):
    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(
        get_current_stream=lambda: streams[here.device],
        Device=lambda: Block("device", getattr(here, "device", None)),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    block = backend.carry(chosen("cupy", Block("device", "gpu1")))
    assert in_a_thread(block) == [("gpu1", "mine"), (None, None)] * 2
    assert here.device is None


def test_torch(monkeypatch, streams):
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(current_stream=lambda device: streams[device.name], stream=lambda stream: stream)
    monkeypatch.setitem(sys.modules, "torch", torch)
    device = types.SimpleNamespace(type="cuda", name="gpu1")
    assert in_a_thread(backend.carry(chosen("torch", device))) == [(None, "mine"), (None, None)] * 2


@pytest.mark.parametrize("library", ["numpy", "torch", "array_api_strict"])
def test_nothing_on_the_cpu(library, streams):
    assert in_a_thread(backend.carry(chosen(library, types.SimpleNamespace(type="cpu")))) == [(None, None)] * 4
