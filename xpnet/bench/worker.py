"""The process that measures one thing and prints it: ``python -m xpnet.bench.worker '{"task": ...}'``.

A process of its own, because the number of BLAS threads is read when NumPy loads, and the high-water mark of
memory never goes down.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import backend
from xpnet.bench.machine import peaks
from xpnet.bench.scaling import CURVES, compare
from xpnet.bench.subjects import GRAPHS, RIVALS, has_torch, operation_subjects, step_subject
from xpnet.bench.timing import alternate, ratio, summarize
from xpnet.bench.workloads import LARGE, OPERATIONS, WORKLOADS, Workload
from xpnet.errors import BackendUnavailableError

__all__ = ["main"]


def _set_threads(threads: int) -> None:
    if has_torch():
        importlib.import_module("torch").set_num_threads(threads)


def _wait() -> None:
    """Wait for the device of xpnet's backend and for PyTorch's, which run behind the program."""
    backend.synchronize()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _visits(subjects: dict[str, Any], settings: dict[str, Any]) -> dict[str, list[list[float]]]:
    return alternate(subjects, rounds=settings["rounds"], seconds=settings["seconds"], wait=_wait)


def _timed(subjects: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    visits = _visits(subjects, settings)
    result = {}
    for name, times in visits.items():
        result[name] = {**summarize(times)._asdict()}
        if name != "xpnet":
            result[name]["ratio"] = ratio(times, visits["xpnet"])
    return result


def _wanted(settings: dict[str, Any]) -> Workload:
    workload = (WORKLOADS | LARGE)[settings["name"]]
    return workload._replace(batch=settings["batch"]) if settings.get("batch") else workload


def _workload(settings: dict[str, Any]) -> dict[str, Any]:
    workload = _wanted(settings)
    made = {name: step_subject(name, workload, settings["mode"]) for name in ("xpnet", *RIVALS)}
    failed: dict[str, str] = {}
    for name in GRAPHS:  # which a step may not suit: the others are measured all the same
        try:
            call = step_subject(name, workload, settings["mode"])
            if call is not None:
                call()
                call()  # is recorded
            made[name] = call
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    rows = workload.model().summary(workload.input_shape).rows
    work = [r.multiply_adds for r in rows if r.multiply_adds]
    # forward; then dW and dx of each layer, but no dx of the first
    counted = 3 * sum(work) - work[0] if settings["mode"] == "train" else sum(work)
    subjects = {name: call for name, call in made.items() if call is not None}
    result = {"flop": 2 * counted * workload.batch, "times": _timed(subjects, settings)}
    return result | ({"failed": failed} if failed else {})


def _operation(settings: dict[str, Any]) -> dict[str, Any]:
    operation = OPERATIONS[settings["name"]]
    by_direction = operation_subjects(operation)
    rows = operation.layer().summary(operation.input_shape).rows
    flop = 2 * operation.batch * sum(row.multiply_adds for row in rows)
    # the least: input read, output written
    moved = 4 * operation.batch * (math.prod(operation.input_shape) + math.prod(rows[-1].output_shape))
    result = {}
    for direction, subjects in by_direction.items():
        times = _timed(subjects, settings)
        result[direction] = {"flop": flop * (1 + (direction == "backward")), "moved": moved, "times": times}
    return result


def _scaling(settings: dict[str, Any]) -> dict[str, Any]:
    curve = CURVES[settings["name"]]
    visits = _visits({str(point): curve.subject(point) for point in curve.points}, settings)
    return {"over": curve.over, "points": compare(curve, list(visits.values()))}


def _memory(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return bytes: resident after the imports, and how far three training steps took the high-water mark above."""
    workload = _wanted(settings)
    # what a large network leaves behind would count as there before
    tiny = WORKLOADS["small-vgg"] if settings["name"] in LARGE else workload
    warm = step_subject(settings["subject"], tiny._replace(batch=2), "train")
    if warm is None:
        return None
    warm()
    del warm
    compiled = sys.modules.get("xpnet.kernels.compiled")
    if compiled is not None and settings["subject"] == "xpnet":  # code that only larger batches call is no data
        compiled.loader.load_all(np.dtype("float32"))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _status("VmRSS")
    step = step_subject(settings["subject"], workload, "train")
    assert step is not None
    for _ in range(3):
        step()
    return {"before": before, "added": _status("VmHWM") - before}


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


TASKS = {
    "workload": _workload,
    "operation": _operation,
    "scaling": _scaling,
    "memory": _memory,
    "peaks": lambda settings: peaks(settings["rounds"] + 1),
}


def main(argv: list[str] | None = None) -> int:
    """Measure what the settings say (a JSON object as the one argument) and print a JSON object."""
    settings = json.loads((argv or sys.argv[1:])[0])
    try:
        backend.use(settings["backend"], dtype="float32")
    except BackendUnavailableError as error:
        sys.exit(str(error))  # without a traceback
    if settings["task"] != "peaks":  # for which PyTorch need not be loaded
        _set_threads(settings["threads"])
    result = TASKS[settings["task"]](settings)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
