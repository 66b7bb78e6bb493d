"""Recording of CUDA graphs: what waits for what, whose memory it is, and what is refused; on stand-ins."""

from __future__ import annotations

import importlib
import threading
import types

import pytest

from tests.kernels import captured_cupy
from tests.kernels.captured_cupy import Capturing, Stream, capturing, everybody, streams


@pytest.fixture
def graph():
    """The module; nothing is compiled, since nothing is launched."""
    with capturing(Capturing(None)):
        yield importlib.import_module("xpnet.kernels.cupy.graph")


def test_a_rehearsal_waits_and_is_waited_for(graph, monkeypatch):
    """Its stream for what was sent before, and what is sent after for it, also if it fails."""
    said = []
    monkeypatch.setattr(Stream, "record", lambda self: said.append(("record", self)) or self)
    monkeypatch.setattr(Stream, "wait_event", lambda self, event: said.append((self, "waits for", event)))
    recording, usual = graph.Recording(), streams[-1]

    def work():
        said.append("work")
        assert graph.is_recording()
        assert streams[-1] is recording._stream
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        recording.rehearse(work)
    own = recording._stream
    assert said == [
        ("record", usual), (own, "waits for", usual), "work", ("record", own), (usual, "waits for", own),
    ]  # fmt: skip
    assert not graph.is_recording()


def test_a_recording_that_fails_ends_and_leaves_nothing(graph):
    recording = graph.Recording()
    with pytest.raises(KeyboardInterrupt):
        recording.record(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not captured_cupy.tape.running
    assert recording._graph is None
    assert recording.record(lambda: 5) == 5
    assert recording._graph is not None


def is_free(block):
    return any(block is free for free, _ in everybody.free.get(block.size, []))


def test_memory_is_given_back_with_the_recording_and_not_before(graph):
    """A pool that runs out of memory lets go of what is free in it; the addresses in the graph stay ours."""
    recording = graph.Recording()
    block, other = (recording._pool.malloc(size).block for size in (1536, 2560))
    recording._pool.free_all_blocks()
    assert not is_free(block)
    recording._pool.malloc(2560)  # and is free again
    del recording
    assert is_free(block)
    assert is_free(other)
    assert not graph._leaving


def test_an_array_that_outlives_its_recording_is_given_back_with_the_next(graph):
    recording = graph.Recording()
    memory = recording._pool.malloc(3584)
    block = memory.block
    del recording
    assert not is_free(block)
    del memory
    graph.Recording()
    assert is_free(block)
    assert not graph._leaving


def test_only_the_thread_that_records_may_not_copy_from_the_host(graph, monkeypatch):
    now = [lambda size: "usual"]
    cupy = graph.cupy
    monkeypatch.setattr(cupy, "get_default_pinned_memory_pool", lambda: types.SimpleNamespace(malloc=now[0]))
    monkeypatch.setattr(cupy.cuda, "set_pinned_memory_allocator", now.append)
    got = []

    def work():
        other = threading.Thread(target=lambda: got.append(now[-1](8)))
        other.start()
        other.join()
        now[-1](8)

    with pytest.raises(RuntimeError, match="a step copies an array of the host"):
        graph.Recording().record(work)
    assert got == ["usual"]
    assert now[-1] is now[0]
