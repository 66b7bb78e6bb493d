"""Benchmarks: training steps, inference and single operations beside PyTorch and a textbook network; how time grows.

`benchmark` measures each workload in a process of its own, in which all rivals take turns; `tables` shows
what it returns.
"""

from xpnet.bench.report import tables
from xpnet.bench.run import benchmark
from xpnet.bench.scaling import CURVES, Curve
from xpnet.bench.timing import Times, alternate, ratio
from xpnet.bench.workloads import LARGE, OPERATIONS, WORKLOADS, Operation, Workload

__all__ = [
    "CURVES",
    "LARGE",
    "OPERATIONS",
    "WORKLOADS",
    "Curve",
    "Operation",
    "Times",
    "Workload",
    "alternate",
    "benchmark",
    "ratio",
    "tables",
]
