"""What the scripts share: arguments, choice of backend, errors without tracebacks, the run, its results on disk."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xpnet
from xpnet import backend, optim
from xpnet.data import Dataset
from xpnet.errors import BackendUnavailableError, DataError, MissingDependencyError, OperationError
from xpnet.files import atomic_write
from xpnet.io import save_weights
from xpnet.layers import Layer
from xpnet.optional import require
from xpnet.schedules import Cosine
from xpnet.training import Trainer
from xpnet.viz import plot_history

INTERRUPTED = 130  # the shell's code for a process that Ctrl-C ended


def add_arguments(
    parser: argparse.ArgumentParser, *, epochs: int, batch_size: int, optimizer: str, lr: float, out: str, seed: int = 0
) -> None:
    """Add the arguments that all training scripts take, with the defaults of this one."""
    add_basic_arguments(parser, out=out, seed=seed)
    parser.add_argument("--epochs", type=positive, default=epochs, help="passes over the training images (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=batch_size, help="images in a step (%(default)s)")
    parser.add_argument("--optimizer", default=optimizer, help="sgd, momentum, adam, ... (%(default)s)")
    parser.add_argument("--lr", type=float, default=lr, help="learning rate (%(default)s)")
    parser.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        default="constant",
        help="of the learning rate; cosine goes down to zero with the last step (%(default)s)",
    )
    parser.add_argument(
        "--limit", type=positive, help="use the first so many training and test images only; by default all"
    )


def add_basic_arguments(parser: argparse.ArgumentParser, *, out: str, seed: int = 0) -> None:
    """Add the arguments that every script takes: backend, float type, seed, and where the results go."""
    parser.add_argument(
        "--backend",
        help="auto, numpy, cupy[:device], torch[:device] or array_api_strict[:device]; "
        "by default the environment variable XPNET_BACKEND, else auto: CuPy where there is a GPU, else NumPy",
    )
    parser.add_argument("--dtype", choices=backend.DTYPES, help="float type; by default XPNET_DTYPE, else float32")
    parser.add_argument("--seed", type=int, default=seed, help="of weights and order of samples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the results (%(default)s)")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a data set, for scripts whose default needs no network."""
    parser.add_argument(
        "--data",
        choices=("digits", "mnist", "fashion_mnist", "auto"),
        default="digits",
        help="the 8x8 digits need no network; mnist and fashion_mnist are downloaded if they are not found; auto is "
        "MNIST where it is found under XPNET_DATA or in the cache, else the digits (%(default)s)",
    )


def positive(text: str) -> int:
    """Parse a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run(args: argparse.Namespace, make_model: Callable[[Dataset], Layer], load: Callable[[], Dataset]) -> int:
    """Train, report and save; return the exit code."""
    return guarded(lambda: _run(args, make_model, load))


def guarded(work: Callable[[], int]) -> int:
    """Do the work and return its exit code; what can go wrong ends in one line, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return work()
    except BackendUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DataError, MissingDependencyError, OperationError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(args: argparse.Namespace, make_model: Callable[[Dataset], Layer], load: Callable[[], Dataset]) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    optimizer = optim.by_name(args.optimizer, lr=args.lr)
    data = load()
    if args.limit:
        data = data.limit(args.limit, args.limit)
    model = make_model(data).build(data.input_shape, rng=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)  # now, so that a folder that cannot be written costs no training
    print(f"{data.name}: {len(data.x_train):,} training and {len(data.x_test):,} test images; backend {chosen.name}")
    print(model.summary())

    schedule = None
    if args.schedule == "cosine":
        steps = args.epochs * -(-len(data.x_train) // args.batch_size)
        schedule = Cosine(args.lr, period=steps, every="update")
    trainer = Trainer(model, optimizer=optimizer, schedule=schedule, batch_size=args.batch_size, seed=args.seed)
    history = trainer.fit(data.train, data.test, epochs=args.epochs)
    if history.interrupted:
        print(f"interrupted after {len(history)} whole epochs; keeping what was learnt")
    result = trainer.evaluate(data.test)
    print(f"test accuracy {result.accuracy:.4f}, loss {result.loss:.4f}")

    print(f"weights  {save_weights(model, args.out / 'weights.safetensors')}")
    about = {
        **origin(chosen),
        "model": type(model).__name__,
        "parameters": sum(p.size for p in model.parameters()),
        "data": f"{data.name}, {len(data.x_train)} training and {len(data.x_test)} test images",
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "seconds": round(sum(history["seconds"]), 1),
    }
    history.save(args.out / "history.json", about=about)
    print(f"history  {args.out / 'history.json'}")
    if len(history):
        save_figure(plot_history(history, title=f"{type(model).__name__} on {data.name}"), args.out / "curves.png")
    return INTERRUPTED if history.interrupted else 0


def origin(chosen: backend.Backend) -> dict[str, Any]:
    """Return where results come from: command, commit, backend, versions and machine."""
    return {
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": _commit(),
        "backend": chosen.name,
        "dtype": backend.dtype_name(chosen.dtype),
        "versions": {
            "xpnet": xpnet.__version__,
            "python": platform.python_version(),
            chosen.xp.__name__.rpartition(".")[2]: getattr(chosen.xp, "__version__", ""),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, that needs no display."""
    return require("matplotlib.figure", "the figures").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure and say where."""
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    print(f"figure   {path}")


def save_results(path: Path, about: Mapping[str, Any], **results: Any) -> None:
    """Write numbers as JSON, with where they come from, and say where."""
    with atomic_write(path) as file:
        file.write((json.dumps({"about": about, **results}, indent=2) + "\n").encode())
    print(f"results  {path}")


def _commit() -> str | None:
    """Return the commit of the checkout that this script belongs to, marked if files differ; None outside of one."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
