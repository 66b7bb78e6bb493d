"""How time grows: of training steps with the batch, of a convolution with images, channels and pixels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from xpnet.bench.subjects import layer_subject, step_subject
from xpnet.bench.timing import summarize
from xpnet.bench.workloads import WORKLOADS, Operation
from xpnet.layers import Conv2D

__all__ = ["CURVES", "Curve", "compare"]

BATCHES = (16, 32, 64, 128, 256, 512, 1024)


class Curve(NamedTuple):
    """The same work in several sizes: what the sizes are, and for each what to time and how much work that is."""

    over: str
    points: tuple[int, ...]
    subject: Callable[[int], Callable[[], object]]
    work: Callable[[int], int]


def _step(workload: str) -> Curve:
    def subject(batch: int) -> Callable[[], object]:
        step = step_subject("xpnet", WORKLOADS[workload]._replace(batch=batch), "train")
        assert step is not None
        return step

    return Curve("images", BATCHES, subject, lambda batch: batch)


def _convolution(channels: int, side: int, batch: int) -> Callable[[], object]:
    """Return forward and backward of a 3x3 convolution with as many filters as channels."""
    return layer_subject(Operation(lambda: Conv2D(channels, 3, padding=1), (channels, side, side), batch))


def _over_images(channels: int) -> Curve:
    return Curve("images", BATCHES, lambda batch: _convolution(channels, 16, batch), lambda batch: batch)


def _over_pixels(channels: int) -> Curve:
    return Curve("pixels", (8, 16, 32, 64), lambda side: _convolution(channels, side, 32), lambda side: side**2)


CURVES: dict[str, Curve] = {
    "lenet": _step("lenet-64"),
    "simple-convnet": _step("simple-convnet"),
    "deep-convnet": _step("deep-convnet"),
    "resnet20": _step("resnet20"),
    "conv 3x3 32->32 over images": _over_images(32),
    "conv 3x3 128->128 over images": _over_images(128),
    "conv 3x3 32->32 over pixels": _over_pixels(32),
    "conv 3x3 128->128 over pixels": _over_pixels(128),
    "conv 3x3 over channels": Curve(
        "channels",
        (16, 32, 64, 128, 256),
        lambda channels: _convolution(channels, 16, 32),
        lambda channels: channels**2,
    ),
}


def compare(curve: Curve, visits: Sequence[Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    """Return the statistics of each point of a curve.

    What counts is the mean of a visit, which lasts about as long for every point: a process that is stopped for some
    milliseconds is stopped in the midst of a long call, but between two short ones, which a median would not see.

    Parameters
    ----------
    curve : Curve
    visits : sequence of sequence of sequence of float
        Of each point, as `alternate` has them: seconds of each call of each visit.

    Returns
    -------
    points : list of dict
        ``"point"``; ``"work"``; the statistics of a call's seconds over the visits; and ``"relative"``: seconds divided
        by work, to those of the curve's middle in the same round, the median over the rounds. A flat curve has ones.
    """
    means = [[statistics.fmean(visit) for visit in own] for own in visits]
    work = [curve.work(point) for point in curve.points]
    rounds = [[seconds / w for seconds, w in zip(one, work, strict=True)] for one in zip(*means, strict=True)]
    relative = zip(*([unit / statistics.median(one) for unit in one] for one in rounds), strict=True)
    return [
        {"point": point, "work": w, **summarize([own])._asdict(), "relative": statistics.median(ratios)}
        for point, w, own, ratios in zip(curve.points, work, means, relative, strict=True)
    ]
