"""The argument that names a trained model: a run's folder or checkpoint, by default the newest one."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpnet.errors import WeightsError

__all__ = ["RUNS", "add_run_argument", "chosen_run"]

RUNS = Path("runs")  # where `xpnet train` puts its folders


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--run``; see `chosen_run`."""
    parser.add_argument(
        "--run",
        type=Path,
        metavar="PATH",
        help="folder of a run (its best epoch is taken, else its last) or one of its checkpoints; "
        f"by default the newest below {RUNS}/",
    )


def chosen_run(args: argparse.Namespace) -> Path:
    """Return the run that was named, or the newest.

    Raises
    ------
    WeightsError
        If none was named and there is none.
    """
    if args.run is not None:
        return args.run
    found = sorted(RUNS.glob("*/last.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise WeightsError(f"no run below {RUNS}/ here; train one (xpnet train), or name one by --run")
    return found[-1].parent
