"""What scripts/test_gpu.sh does: tests, benchmark and a training on the GPU, each in a process with a time limit.

Without a usable GPU it says why, runs what needs none (the CUDA sources compiled, and run on the CPU) and ends with
status 3.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

STEPS = ("tests", "benchmark", "training")
LIMITS = {"tests": 310, "benchmark": 135, "training": 70}  # seconds
GRACE = 15  # more for a process that is interrupted to write its report; all together under ten minutes
NEEDS = {
    "tests": ("pytest", "pytest_timeout", "hypothesis", "array_api_strict"),
    "benchmark": (),
    "training": ("matplotlib", "safetensors", "tqdm"),
}
NO_GPU = 3
NO_TESTS = 5  # what pytest ends with if it has found none
Parts = dict[str, list[str]]  # name -> command


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/test_gpu.sh", description=__doc__)
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=list(STEPS), help="by default all")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="of the step tests (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="by default in benchmarks/results, if there is a GPU")
    args = parser.parse_args(argv)
    if missing := absent(("numpy", "array_api_compat")):
        print(f"missing: {', '.join(missing)}; pip install -e .", file=sys.stderr)
        return 1
    about = describe()
    usable = about["unusable"] is None
    if usable:
        print(f"{about['gpu']}, driver for CUDA {about['driver']}, CuPy {about['cupy']}, commit {about['commit']}")
    else:
        print(f"no usable GPU: {about['unusable']}", file=sys.stderr)
    result: dict[str, Any] = {"about": about, "steps": {}}
    target = args.json or (default_file(about) if usable else None)
    for step in args.steps:
        if not usable and step != "tests":
            result["steps"][step] = {"status": "left out", "reason": "no usable GPU"}
        else:
            result["steps"][step] = run(step, args.tests if usable else ["tests/kernels"], usable)
        print(f"{step}: {line(result['steps'][step])}", flush=True)
        if target:  # after each, for whatever may end this one
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(result, indent=1) + "\n")
    if target:
        print(f"written to {target}")
    if any(step["status"] in ("failed", "missing") for step in result["steps"].values()):
        return 1
    return 0 if usable else NO_GPU


def absent(modules: tuple[str, ...]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


def describe() -> dict[str, Any]:
    """Return commit, machine, GPU and versions; ``unusable`` says why there is no GPU to run on, or is None."""
    from xpnet import backend
    from xpnet.bench.machine import describe

    about: dict[str, Any] = describe()
    cuda = about.pop("cuda")
    about |= {
        "gpu": cuda["gpus"][0]["name"] if cuda["gpus"] else None,
        "driver": cuda["driver"],
        "driver_release": driver_release(),
        "cuda_runtime": cuda["runtime"],
        "cudnn": cuda["cudnn"],
        "cupy": None,
        "unusable": None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        with backend.using("cupy") as chosen:
            about["cupy"] = chosen.xp.__version__
    except backend.BackendUnavailableError as error:
        about["unusable"] = str(error)
    return about


def driver_release() -> str | None:
    """Return the driver's own number, as 580.65.06, where nvidia-smi tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def run(step: str, tests: list[str], usable: bool) -> dict[str, Any]:
    """Run one step in a process of its own and return what came of it."""
    if missing := absent(NEEDS[step]):
        return {"status": "missing", "reason": f"not installed: {', '.join(missing)}"}
    # a test that asks for no backend means NumPy's arrays; benchmark and training name theirs
    variables = {"XPNET_TEST_BACKENDS": "cupy" if usable else "numpy", "XPNET_BACKEND": "numpy"}
    # this checkout, installed or not
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = time.monotonic()
        reasons = []
        for part, command in PARTS[step](place, tests).items():
            left = LIMITS[step] - (time.monotonic() - start)
            reason = why_failed(command, left, os.environ | variables) if left > 0 else "no time left"
            if reason:
                reasons.append(f"{part}: {reason}")
        found: dict[str, Any] = {"seconds": round(time.monotonic() - start, 1), **READERS[step](place)}
        reasons += [found.pop("reason")] if "reason" in found else []
    status = "failed" if reasons else "passed"
    return {"status": status, **({"reason": "; ".join(reasons)} if reasons else {}), **found}


def why_failed(command: list[str], seconds: float, variables: dict[str, str]) -> str | None:
    """Run a command for so long at most; return why it has failed, or None.

    In a group of its own, so that what it has started ends with it.
    """
    process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
    try:
        code = process.wait(seconds)
        return f"exit status {code}" if code not in (0, NO_TESTS) else None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # at which pytest writes its report
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return "not done in time"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tests_parts(place: Path, tests: list[str]) -> Parts:
    """What needs the GPU first: the rest runs without one too."""
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(12, os.cpu_count() or 1))]
    chosen = {"gpu": "cupy or gpu", "rest": "not cupy and not gpu"}
    return {
        part: [*command, f"--junitxml={place / f'tests-{part}.xml'}", "-k", words] for part, words in chosen.items()
    }


def benchmark_parts(place: Path, tests: list[str]) -> Parts:
    """A process for each network, so that the others are measured if one fails."""
    from xpnet.bench import WORKLOADS

    command = [sys.executable, "scripts/benchmark.py", "--backend", "cupy", "--quick", "--train"]
    return {
        name: [*command, "--workloads", name, "--json", str(place / f"benchmark-{name}.json")] for name in WORKLOADS
    }


def training_parts(place: Path, tests: list[str]) -> Parts:
    command = [sys.executable, "scripts/train_lenet.py", "--backend", "cupy", "--epochs", "3"]
    return {"lenet": [*command, "--out", str(place / "run")]}


PARTS = {"tests": tests_parts, "benchmark": benchmark_parts, "training": training_parts}


def read_tests(place: Path) -> dict[str, Any]:
    """Return how many tests passed, failed and were skipped, and the names of those that failed."""
    cases = [c for file in place.glob("tests-*.xml") for c in ElementTree.parse(file).getroot().iter("testcase")]
    cases = [c for c in cases if c.get("name")]  # the others were interrupted
    if not cases:
        return {"reason": "pytest left no report"}
    failed = [f"{c.get('classname')}::{c.get('name')}" for c in cases if c.find("failure") is not None]
    failed += [f"{c.get('classname')}::{c.get('name')}" for c in cases if c.find("error") is not None]
    skipped = sum(c.find("skipped") is not None for c in cases)
    counts = {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped}
    return counts | ({"failures": failed} if failed else {})


def read_benchmark(place: Path) -> dict[str, Any]:
    """Return the results of all networks as if one process had measured them."""
    whole: dict[str, Any] = {}
    failed = set()
    for file in sorted(place.glob("benchmark-*.json")):
        result = json.loads(file.read_text())
        whole = whole or {**result, "workloads": {}}
        whole["workloads"] |= result["workloads"]
        failed |= {
            (name, who) for name, w in result["workloads"].items() for m in w.values() for who in m.get("failed", ())
        }
    if not whole:
        return {"reason": "the benchmark left no result"}
    said = {"reason": ", ".join(f"{who} failed for {name}" for name, who in sorted(failed))} if failed else {}
    return {"result": whole} | said


def read_training(place: Path) -> dict[str, Any]:
    """Return on what was trained, how long the epochs took, and the accuracy they came to."""
    file = place / "run" / "history.json"
    if not file.exists():
        return {"reason": "the training left no history"}
    about = json.loads(file.read_text())["about"]
    found = {name: about[name] for name in ("command", "data", "backend", "test_accuracy")}
    return {**found, "epochs_seconds": about["seconds"]}


READERS = {"tests": read_tests, "benchmark": read_benchmark, "training": read_training}


def line(step: dict[str, Any]) -> str:
    shown = {k: v for k, v in step.items() if k not in ("status", "result", "failures", "command")}
    return step["status"] + "".join(f", {name} {value}" for name, value in shown.items())


def default_file(about: dict[str, Any]) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-")
    return ROOT / "benchmarks" / "results" / f"{about['date'][:10]}-gpu-{name}.json"


if __name__ == "__main__":
    sys.exit(main())
