"""Kill random ranks of a distributed run at random moments, resume it each time, and check that nothing is lost.

Each time the job must end by itself within seconds and name the rank that died; in the end the weights must be, bit for
bit, those of a run that nobody disturbed. Linux, and MPICH's mpiexec.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import positive

from xpnet.io.weights import read_arrays
from xpnet.training.checkpoint import read_about

MODEL = ["--model", "tiny_convnet", "--data", "digits", "--limit", "500", "--backend", "numpy"]
LIMIT = 60.0  # seconds after which a job that goes on is taken for hung


def job(ranks: int, *arguments: str) -> subprocess.Popen[str]:
    """Start ``xpnet train`` on several ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("kill_ranks: no mpiexec; pip install 'xpnet[mpi]'")
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "xpnet", "train", "--distributed", *arguments]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes(folder: Path) -> dict[int, int]:
    """Return the process of each rank that works on a folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (entry / "cmdline").read_text().split("\0"):
                rank = re.search(r"(?:^|\0)PMI_RANK=(\d+)", (entry / "environ").read_text())
                if rank:
                    found[int(rank[1])] = int(entry.name)
        except OSError:  # it has ended in the meantime
            continue
    return found


def kill_once(rng: random.Random, ranks: int, folder: Path, span: float) -> tuple[int, float, str]:
    """Start or resume the run and kill one of its ranks; return which, seconds until the job ended, and its output."""
    begun = (folder / "settings.toml").exists()
    where = ["--resume", str(folder)] if begun else [*MODEL, "--epochs", "100000", "--out", str(folder)]
    run = job(ranks, *where)
    assert run.stdout is not None
    said = []
    for line in run.stdout:  # from its first line on, all ranks have joined
        said.append(line)
        if "ranks through" in line:
            break
    time.sleep(rng.uniform(0.0, span))
    victim = rng.randrange(ranks)
    os.kill(processes(folder)[victim], signal.SIGKILL)
    start = time.perf_counter()
    try:
        said.append(run.communicate(timeout=LIMIT)[0])
    except subprocess.TimeoutExpired:
        run.kill()
        raise SystemExit(f"the job goes on {LIMIT:g} s after rank {victim} was killed") from None
    return victim, time.perf_counter() - start, "".join(said)


def finish(ranks: int, *arguments: str) -> None:
    """Train to the end."""
    run = job(ranks, *arguments)
    said = run.communicate(timeout=600)[0]
    if run.returncode:
        raise SystemExit(said)


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=positive, default=20)
    parser.add_argument("--ranks", type=int, default=3, help="2 or more (3)")
    parser.add_argument("--span", type=float, default=2.0, help="seconds of training within which a rank is killed (2)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.ranks < 2:
        parser.error(f"argument --ranks: must be at least 2, since the others name the one that dies; got {args.ranks}")
    rng = random.Random(args.seed)
    worst, epochs = 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        folder, whole = Path(place, "killed"), Path(place, "whole")
        for number in range(1, args.kills + 1):
            victim, seconds, said = kill_once(rng, args.ranks, folder, args.span)
            if f"xpnet: rank {victim} (process" not in said:
                raise SystemExit(f"nothing names rank {victim}:\n{said}")
            worst = max(worst, seconds)
            last = folder / "last.safetensors"
            epochs = len(read_about(last)["history"]["epochs"]) if last.exists() else 0
            print(f"kill {number}: rank {victim}, ended after {seconds:.2f} s, {epochs} epochs saved", flush=True)
        finish(args.ranks, "--resume", str(folder), "--epochs", str(epochs + 1))
        finish(args.ranks, *MODEL, "--epochs", str(epochs + 1), "--out", str(whole))
        states = [read_arrays(path / "last.safetensors")[0] for path in (folder, whole)]
        different = [name for name in states[0] if (states[0][name] != states[1][name]).any()]
        if different:
            raise SystemExit(f"other weights than without kills: {', '.join(different)}")
    print(f"{args.kills} kills; the longest end took {worst:.2f} s; {epochs + 1} epochs, weights as without kills")


if __name__ == "__main__":
    main()
