"""What the training scripts share: arguments, choice of backend, the run, and its results on disk."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import xpnet
from xpnet import backend, optim
from xpnet.cli.arguments import add_backend_arguments, add_seed_argument, positive
from xpnet.cli.guard import INTERRUPTED, guarded
from xpnet.data import Dataset
from xpnet.io import save_weights
from xpnet.layers import Layer
from xpnet.schedules import Cosine
from xpnet.training import Trainer
from xpnet.viz import plot_history


def add_arguments(
    parser: argparse.ArgumentParser, *, epochs: int, batch_size: int, optimizer: str, lr: float, out: str, seed: int = 0
) -> None:
    """Add the arguments that all training scripts take, with the defaults of this one."""
    add_backend_arguments(parser)
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
    add_seed_argument(parser, "weights and order of images", seed)
    parser.add_argument(
        "--out", type=Path, default=Path(out), help="folder for weights, history and plot (%(default)s)"
    )


def run(args: argparse.Namespace, make_model: Callable[[Dataset], Layer], load: Callable[[], Dataset]) -> int:
    """Train, report and save; return the exit code. What can go wrong ends in one line, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return guarded(_run, args, make_model, load)


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
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": _commit(),
        "model": type(model).__name__,
        "parameters": sum(p.size for p in model.parameters()),
        "data": f"{data.name}, {len(data.x_train)} training and {len(data.x_test)} test images",
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "seconds": round(sum(history["seconds"]), 1),
        "backend": chosen.name,
        "dtype": backend.dtype_name(chosen.dtype),
        "versions": {
            "xpnet": xpnet.__version__,
            "python": platform.python_version(),
            chosen.xp.__name__.rpartition(".")[2]: getattr(chosen.xp, "__version__", ""),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    history.save(args.out / "history.json", about=about)
    print(f"history  {args.out / 'history.json'}")
    if len(history):
        plot_history(history, title=f"{type(model).__name__} on {data.name}").savefig(args.out / "curves.png", dpi=120)
        print(f"curves   {args.out / 'curves.png'}")
    return INTERRUPTED if history.interrupted else 0


def _commit() -> str | None:
    """Return the commit of the checkout that this script belongs to, marked if files differ; None outside of one."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
