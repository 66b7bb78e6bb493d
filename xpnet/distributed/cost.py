"""How long a step takes on many ranks: a model to plan by, made of a few measured numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from xpnet.layers.base import Layer

__all__ = [
    "Cluster",
    "Link",
    "Prediction",
    "Work",
    "gradient_bytes",
    "predict_step",
    "ring_seconds",
    "two_level_seconds",
    "wire_bytes",
]


def gradient_bytes(model: Layer) -> int:
    """Return the bytes that a step sums over the ranks: those of the flat gradient buffers.

    Examples
    --------
    >>> from xpnet.distributed.cost import gradient_bytes
    >>> from xpnet.layers import Dense
    >>> gradient_bytes(Dense(10).build((4,)))
    200
    """
    return sum(math.prod(s.grad.shape) * s.grad.dtype.itemsize for s in model.store.segments)


class Link(NamedTuple):
    """What joins two ranks.

    Attributes
    ----------
    bandwidth : float
        Bytes a second, in each direction.
    latency : float
        Seconds until the first byte arrives.
    """

    bandwidth: float
    latency: float


def wire_bytes(size: float, ranks: int) -> float:
    r"""Return what each rank sends to sum `size` bytes in a ring: :math:`2 \frac{P - 1}{P} S`."""
    return 2.0 * (ranks - 1) / ranks * size


def ring_seconds(size: float, ranks: int, link: Link) -> float:
    r"""Return the time of a sum over a ring of ranks.

    .. math:: T = 2 (P - 1) \alpha + 2 \frac{P - 1}{P} \frac{S}{\beta}

    with latency alpha and bandwidth beta: P - 1 rounds in which each rank adds a part of the array to what it was
    given, and P - 1 in which the sums go round.

    Parameters
    ----------
    size : float
        Bytes of the array.
    ranks : int
    link : Link
        The slowest of the ring.

    References
    ----------
    Patarasuk and Yuan, *Bandwidth optimal all-reduce algorithms for clusters of workstations* (2009).

    Examples
    --------
    >>> from xpnet.distributed.cost import Link, ring_seconds
    >>> ring_seconds(1e9, 4, Link(1e10, 1e-5))
    0.15006
    """
    return 2 * (ranks - 1) * link.latency + wire_bytes(size, ranks) / link.bandwidth


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Nodes of several ranks each.

    Attributes
    ----------
    inside, between : Link
        Of two ranks of a node, and of each rank with its counterpart on the next node.
    per_node : int
        Ranks on a node.
    """

    inside: Link
    between: Link
    per_node: int


def two_level_seconds(size: float, ranks: int, cluster: Cluster) -> float:
    """Return the time of a sum within the nodes, between them, and within them again.

    Each rank of a node is given the sum of one part of the array, sums that part with its counterparts on the other
    nodes over its own link, and passes it round the node. On one node that is the ring.

    Examples
    --------
    >>> from xpnet.distributed.cost import Cluster, Link, ring_seconds, two_level_seconds
    >>> cluster = Cluster(Link(1e11, 0.0), Link(1e10, 0.0), per_node=8)
    >>> two_level_seconds(8e8, 8, cluster) == ring_seconds(8e8, 8, cluster.inside)
    True
    >>> two_level_seconds(8e8, 16, cluster)
    0.024
    """
    if ranks == 1:
        return 0.0
    g = min(ranks, cluster.per_node)
    return ring_seconds(size, g, cluster.inside) + ring_seconds(size / g, math.ceil(ranks / g), cluster.between)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step is on one rank, measured there.

    Attributes
    ----------
    bytes : float
        Of the gradient; see `gradient_bytes`.
    per_sample, per_step : float
        Seconds for each sample of the rank's share, and for the step itself, however small its share.
    messages : int, default 2
        Small messages of a step besides: sums of loss and accuracy, and whether to stop. Two more for each
        `SyncBatchNorm`.
    overlap : float, default 0
        Share of the computing during which gradients can already be on their way. `DataParallel` sends them after
        backward: 0. Sent from within backward it would be about 0.6.
    """

    bytes: float
    per_sample: float
    per_step: float
    messages: int = 2
    overlap: float = 0.0


class Prediction(NamedTuple):
    """A step as predicted, in seconds.

    Attributes
    ----------
    compute : float
        Forward, backward and update.
    exchange : float
        All messages.
    total : float
        Of both, less what happens at the same time.
    samples_per_second : float
        Of all ranks.
    efficiency : float
        Samples a second by those of as many ranks that need not talk, each with the same share.
    """

    compute: float
    exchange: float
    total: float
    samples_per_second: float
    efficiency: float


def predict_step(
    work: Work, batch_size: float, ranks: int, cluster: Cluster, *, cores: float | None = None
) -> Prediction:
    """Predict a step.

    Parameters
    ----------
    work : Work
    batch_size : float
        Of all ranks.
    ranks : int
    cluster : Cluster
    cores : float, optional
        How many ranks can compute at the same time; with more, everything takes so much longer. By default all.

    Returns
    -------
    Prediction

    Examples
    --------
    A gradient of 100 MB and 100 ms of computing on 8 GPUs with 300 GB/s each:

    >>> from xpnet.distributed.cost import Cluster, Link, Work, predict_step
    >>> work = Work(bytes=1e8, per_sample=0.1 / 32, per_step=0.0)
    >>> found = predict_step(work, 256, 8, Cluster(Link(3e11, 1e-5), Link(2.5e10, 1e-5), per_node=8))
    >>> round(found.exchange * 1e3, 2), round(found.efficiency, 3)
    (1.0, 0.99)
    """
    crowd = 1.0 if cores is None else max(1.0, ranks / cores)
    compute = crowd * (work.per_step + work.per_sample * batch_size / ranks)
    exchange = two_level_seconds(work.bytes, ranks, cluster) + work.messages * two_level_seconds(8, ranks, cluster)
    exchange *= crowd
    total = compute + max(0.0, exchange - work.overlap * compute)
    return Prediction(compute, exchange, total, batch_size / total, compute / total / crowd)
