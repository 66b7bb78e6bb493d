"""The cost model against a simulation of the messages, one by one."""

from __future__ import annotations

import pytest

from xpnet import backend
from xpnet.distributed.cost import Cluster, Link, Work, gradient_bytes, predict_step, ring_seconds, two_level_seconds
from xpnet.distributed.cost import wire_bytes as sent
from xpnet.layers import Dense


def simulated_ring(size: float, ranks: int, link: Link) -> tuple[float, float]:
    """Pass parts round a ring until all ranks have the sum of all; return the seconds and the bytes a rank sends."""
    parts = [[{rank} for _ in range(ranks)] for rank in range(ranks)]  # whose numbers are in which part
    clock = bytes_sent = 0.0
    step = 0
    while any(len(part) < ranks for own in parts for part in own):
        before = [[set(part) for part in own] for own in parts]
        for rank in range(ranks):
            number = (rank - step) % ranks
            parts[(rank + 1) % ranks][number] |= before[rank][number]
        clock += link.latency + size / ranks / link.bandwidth
        bytes_sent += size / ranks
        step += 1
    return clock, bytes_sent


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_ring_takes_what_its_messages_take(ranks) -> None:
    link = Link(bandwidth=2e9, latency=3e-6)
    seconds, bytes_sent = simulated_ring(1e6, ranks, link)
    assert ring_seconds(1e6, ranks, link) == pytest.approx(seconds)
    assert sent(1e6, ranks) == pytest.approx(bytes_sent)


def test_two_levels() -> None:
    cluster = Cluster(Link(1e11, 1e-6), Link(1e10, 1e-5), per_node=4)
    assert two_level_seconds(1e8, 1, cluster) == 0.0
    assert two_level_seconds(1e8, 3, cluster) == ring_seconds(1e8, 3, cluster.inside)
    whole = ring_seconds(1e8, 4, cluster.inside) + ring_seconds(1e8 / 4, 3, cluster.between)
    assert two_level_seconds(1e8, 12, cluster) == whole
    assert whole < ring_seconds(1e8, 12, cluster.between)  # or nobody would do it


def test_a_step() -> None:
    cluster = Cluster(Link(1e9, 0.0), Link(1e9, 0.0), per_node=8)
    work = Work(bytes=1e6, per_sample=1e-3, per_step=2e-3, messages=0)
    alone, two = (predict_step(work, 64, ranks, cluster) for ranks in (1, 2))
    assert (alone.total, alone.exchange, alone.efficiency) == (pytest.approx(0.066), 0.0, 1.0)
    assert two.compute == pytest.approx(0.034)
    assert two.total == pytest.approx(0.035)
    assert two.samples_per_second == pytest.approx(64 / 0.035)
    assert two.efficiency == pytest.approx(34 / 35)
    hidden = predict_step(Work(bytes=1e6, per_sample=1e-3, per_step=2e-3, messages=0, overlap=0.5), 64, 2, cluster)
    assert hidden.total == hidden.compute
    crowded = predict_step(work, 64, 2, cluster, cores=1)
    assert crowded.total == pytest.approx(2 * two.total)


def test_bytes_of_a_model() -> None:
    for dtype, size in (("float32", 4), ("float64", 8)):
        with backend.using("numpy", dtype=dtype):
            assert gradient_bytes(Dense(10).build((4,))) == 50 * size
