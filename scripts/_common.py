"""What the scripts that are not `xpnet train` share: arguments, and figures and numbers on disk."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet import run, viz
from xpnet.backend import Backend
from xpnet.cli.arguments import add_backend_arguments, add_seed_argument, positive
from xpnet.cli.guard import guarded
from xpnet.files import atomic_write
from xpnet.optional import require
from xpnet.text import as_json

__all__ = [
    "add_basic_arguments",
    "add_data_argument",
    "guarded",
    "new_figure",
    "origin",
    "positive",
    "save_figure",
    "save_results",
]


def add_basic_arguments(parser: argparse.ArgumentParser, *, out: str, seed: int = 0) -> None:
    """Add the arguments that every script takes: backend, float type, seed, and where the results go."""
    add_backend_arguments(parser)
    add_seed_argument(parser, "weights and order of samples", seed)
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


def origin(chosen: Backend) -> dict[str, Any]:
    """Return where results come from: command, commit, backend, versions and machine."""
    return run.origin(shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]), chosen)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, that needs no display."""
    return require("matplotlib.figure", "the figures").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure and say where."""
    viz.save_figure(figure, path)
    print(f"figure   {path}")


def save_results(path: Path, about: Mapping[str, Any], **results: Any) -> None:
    """Write numbers as JSON, with where they come from, and say where."""
    with atomic_write(path) as file:
        file.write((as_json({"about": about, **results}, indent=2) + "\n").encode())
    print(f"results  {path}")
