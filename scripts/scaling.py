"""Measure training steps on 1, 2, 4 ranks of this machine beside what the cost model predicts, and plan for more.

The prediction knows one rank (three sizes of batch) and the messages of two; steps on several ranks it has not seen.
What is said of GPUs follows from the numbers given by --gpu-..., which are assumptions until somebody measures them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import guarded, new_figure, origin, positive, save_figure, save_results

from xpnet import backend, models
from xpnet.cores import usable_cores
from xpnet.distributed import Communicator, SingleCommunicator, connect
from xpnet.distributed.cost import Cluster, Link, Prediction, Work, gradient_bytes, predict_step
from xpnet.text import table
from xpnet.training import Callback, Trainer

FIRST = 5  # steps that warm up


class Clock(Callback):
    """Notes when each update is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_update(self, trainer: Trainer) -> None:
        """Look at the clock."""
        self.times.append(time.perf_counter())

    def median(self) -> float:
        """Return the seconds of a step."""
        return statistics.median(np.diff(self.times[FIRST:]))


def step_seconds(args: argparse.Namespace, comm: Communicator, batch_size: int) -> tuple[float, int]:
    """Return the seconds of a step and the bytes of its gradient."""
    rng = np.random.default_rng(0)
    x = rng.random((batch_size * 4, *args.input), dtype=np.float32)
    t = rng.integers(0, 10, len(x))
    clock = Clock()
    run = Trainer(
        models.by_name(args.model, 10),
        optimizer="momentum",
        batch_size=batch_size,
        callbacks=[clock],
        communicator=comm if comm.size > 1 else None,
    )
    run.fit((x, t), epochs=-(-(args.steps + FIRST) // 4), verbose=False)
    return clock.median(), gradient_bytes(run.model)


def message_seconds(comm: Communicator, size: int) -> float:
    """Return the seconds of a sum over the ranks."""
    a, found = np.zeros(max(1, size // 4), np.float32), []
    for _ in range(200):
        comm.barrier()
        start = time.perf_counter()
        comm.sum_(a)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def work(args: argparse.Namespace) -> None:
    """Be one of the ranks; rank 0 prints what was measured."""
    comm: Communicator = connect("mpi", backend_name="numpy") if args.worker > 1 else SingleCommunicator()
    step, size = step_seconds(args, comm, args.batch_size)
    found: dict[str, Any] = {"ranks": comm.size, "step": step, "bytes": size}
    if comm.size == 1:
        sizes = [args.batch_size // n for n in (1, 2, 4)]
        found["by_batch"] = {n: step_seconds(args, comm, n)[0] for n in sizes}
    else:
        found["messages"] = {n: message_seconds(comm, n) for n in (8, size)}
    if comm.is_root:
        print("measured " + json.dumps(found), flush=True)


def measure(args: argparse.Namespace, ranks: int) -> dict[str, Any]:
    """Start ranks and return what they have measured."""
    own = [sys.executable, __file__, "--worker", str(ranks), "--model", args.model, "--steps", str(args.steps)]
    own += ["--input", ",".join(map(str, args.input)), "--batch-size", str(args.batch_size)]
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if ranks > 1 and mpiexec is None:
        raise ValueError("scaling: no mpiexec; pip install 'xpnet[mpi]'")
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = own if ranks == 1 else [str(mpiexec), "-n", str(ranks), *own]
    done = subprocess.run(command, env=os.environ | one_thread, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("measured "):
            return json.loads(line.removeprefix("measured "))
    raise ValueError(f"scaling: {ranks} ranks failed: {done.stderr.strip()[-500:]}")


def ms(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return f"{seconds * 1e3:.2f}"


def fitted(one: dict[str, Any], two: dict[str, Any]) -> tuple[Work, Cluster]:
    """Return the numbers of the model from one rank's steps and two ranks' messages."""
    batches, seconds = zip(*((float(n), s) for n, s in one["by_batch"].items()), strict=True)
    per_sample, per_step = np.polyfit(batches, seconds, 1)
    small, large = (s for _, s in sorted((int(n), s) for n, s in two["messages"].items()))
    P = two["ranks"]
    latency = small / (2 * (P - 1))
    link = Link(2 * (P - 1) / P * two["bytes"] / max(large - small, 1e-9), latency)
    return Work(one["bytes"], float(per_sample), max(0.0, float(per_step))), Cluster(link, link, per_node=10**6)


def plan(args: argparse.Namespace) -> dict[int, Prediction]:
    """Return what the model says of 1 to 1024 GPUs with the same share each."""
    job = Work(args.gpu_gradient_mb * 1e6, args.gpu_sample_ms * 1e-3, 0.0)
    cluster = Cluster(
        Link(args.gpu_inside_gbs * 1e9, args.gpu_latency_us * 1e-6),
        Link(args.gpu_between_gbs * 1e9, args.gpu_latency_us * 1e-6),
        args.gpus_per_node,
    )
    return {P: predict_step(job, P * args.gpu_batch, P, cluster) for P in (1, 8, 16, 32, 64, 128, 256, 512, 1024)}


def draw(path: Path, batch_size: int, measured: dict[int, float], predicted: dict[int, Prediction],
         gpus: dict[int, Prediction]) -> None:  # fmt: skip
    """Draw samples a second here, and the efficiency on GPUs as it would be."""
    figure = new_figure(9.0, 3.6)
    here, there = figure.subplots(1, 2)
    here.plot(list(measured), [batch_size / s for s in measured.values()], "o", label="measured")
    here.plot(list(predicted), [p.samples_per_second for p in predicted.values()], "-", label="predicted")
    here.set(xlabel="ranks", ylabel="samples/s", title="this machine", xticks=list(measured), ylim=(0, None))
    here.legend()
    there.semilogx(list(gpus), [p.efficiency for p in gpus.values()], "o-", base=2)
    there.set(xlabel="GPUs", ylabel="efficiency", title="assumed GPUs, predicted only", ylim=(0, 1.05))
    save_figure(figure, path)


def run(args: argparse.Namespace) -> int:
    """Measure, predict, compare."""
    if args.worker:
        work(args)
        return 0
    ranks = sorted({1, 2, *args.ranks})
    found = {P: measure(args, P) for P in ranks}
    job, cluster = fitted(found[1], found[2])
    cores = usable_cores()
    predicted = {P: predict_step(job, args.batch_size, P, cluster, cores=cores) for P in ranks}
    rows = [["ranks", "step ms", "predicted", "off by", "exchange", "samples/s", "speed-up"]]
    for P in ranks:
        step, said, speed = found[P]["step"], predicted[P], args.batch_size / found[P]["step"]
        rows.append(
            [str(P), ms(step), ms(said.total), f"{said.total / step - 1:+.0%}", ms(said.exchange), f"{speed:,.0f}",
             f"{found[1]['step'] / step:.2f}"]
        )  # fmt: skip
    print(f"{args.model}, batch of {args.batch_size} over all ranks, one thread each, {cores} cores")
    print(
        f"gradient {job.bytes / 1e6:.2f} MB; {job.per_sample * 1e6:.1f} us a sample and {ms(job.per_step)} ms a step; "
        f"{cluster.inside.latency * 1e6:.1f} us and {cluster.inside.bandwidth / 1e9:.2f} GB/s"
    )
    print(table(rows))
    gpus = plan(args)
    print(f"predicted only, of assumed GPUs: {args.gpu_gradient_mb:g} MB, {args.gpu_batch} samples a GPU")
    rows = [["GPUs", "step ms", "exchange", "samples/s", "efficiency"]]
    rows += [[str(P), ms(p.total), ms(p.exchange), f"{p.samples_per_second:,.0f}",
              f"{p.efficiency:.0%}"] for P, p in gpus.items()]  # fmt: skip
    print(table(rows))
    args.out.mkdir(parents=True, exist_ok=True)
    steps = {P: found[P]["step"] for P in ranks}
    draw(args.out / "scaling.png", args.batch_size, steps, predicted, gpus)
    with backend.using("numpy") as chosen:
        about = origin(chosen)
    save_results(
        args.out / "scaling.json",
        about,
        measured=list(found.values()),
        predicted={P: p._asdict() for P, p in predicted.items()},
        gpus={P: p._asdict() for P, p in gpus.items()},
    )
    return 0


def numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    return tuple(positive(part) for part in text.split(","))


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=numbers, default=(1, 2, 4), help="beside 1 and 2 (1,2,4)")
    parser.add_argument("--model", default="lenet", choices=models.names(), metavar="NAME", help="(%(default)s)")
    parser.add_argument("--input", type=numbers, default=(1, 28, 28), help="shape of a sample (1,28,28)")
    parser.add_argument("--batch-size", type=positive, default=256, help="of all ranks (%(default)s)")
    parser.add_argument("--steps", type=positive, default=100, help="to measure (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"), help="folder for the results (%(default)s)")
    gpu = parser.add_argument_group("the GPUs to plan for", "assumptions: ResNet-50 in float32 on nodes of eight")
    gpu.add_argument("--gpu-gradient-mb", type=float, default=102.2, help="(%(default)s)")
    gpu.add_argument("--gpu-sample-ms", type=float, default=1.0, help="of computing (%(default)s)")
    gpu.add_argument("--gpu-batch", type=positive, default=64, help="samples a GPU (%(default)s)")
    gpu.add_argument("--gpus-per-node", type=positive, default=8, help="(%(default)s)")
    gpu.add_argument("--gpu-inside-gbs", type=float, default=300.0, help="GB/s in a node (%(default)s)")
    gpu.add_argument("--gpu-between-gbs", type=float, default=20.0, help="GB/s between nodes, each GPU (%(default)s)")
    gpu.add_argument("--gpu-latency-us", type=float, default=10.0, help="of a message (%(default)s)")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.batch_size < 4:
        parser.error("argument --batch-size: must be at least 4, since half and a quarter of it are measured too")
    return guarded(run, args)


if __name__ == "__main__":
    sys.exit(main())
