"""xpnet train: a run from flags or a TOML file, and on from where another one ended."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.cli.guard import INTERRUPTED, guarded
from xpnet.run import Settings, open_settings, train
from xpnet.text import parse_spec
from xpnet.training import Callback, PhaseTimes, TensorBoard

__all__ = ["add_arguments", "add_parser", "run", "script"]

EPILOG = """examples:
  xpnet train --model lenet --data mnist --epochs 2
  xpnet train --model resnet20 --data cifar10 --augment crop:4,flip --validation 0.1 --schedule cosine
  xpnet train --config runs/lenet-mnist/settings.toml --seed 1
  xpnet train --resume runs/lenet-mnist
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("train", help="train a model on a data set and leave everything in a folder")
    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    add_arguments(parser, Settings())
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """Add a flag for each of the settings, and where they come from and the results go."""
    kinds = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        default = getattr(defaults, field.name)
        shown = "" if default is None else f" ({default})"
        kind = kinds[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=kind,
            choices=field.metadata.get("choices"),
            metavar=field.metadata.get("metavar") or (None if "choices" in field.metadata else _metavar(kind)),
            default=argparse.SUPPRESS,
            help=(field.metadata["help"] + shown).replace("%", "%%"),
        )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the results; by default a new one, runs/MODEL-DATA"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; flags go before it")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run in this folder")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too, into the folder")
    parser.add_argument("--times", action="store_true", help="show at the end where the time of the steps went")
    parser.set_defaults(base=defaults, command=shlex.join(["xpnet", *sys.argv[1:]]))


def _metavar(kind: type) -> str:
    return {int: "N", float: "X", str: "TEXT"}[kind]


def run(args: argparse.Namespace) -> int:
    """Train; return the exit code."""
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Settings) if hasattr(args, f.name)}
    if args.resume is not None:
        if args.config is not None or args.out is not None:
            raise ValueError("train: --resume takes settings and folder of the run; leave out --config and --out")
        saved = open_settings(args.resume)
        changed = {name for name in given if given[name] != getattr(saved, name)}
        fixed = changed - {"epochs", "backend", "on_device"}
        if fixed:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(fixed))
            raise ValueError(
                "train: a run that is resumed keeps its settings (only epochs, backend and on-device may change): "
                + flags
            )
        settings, folder = dataclasses.replace(saved, **given), args.resume
    else:
        values = Settings.read(args.config) if args.config is not None else {}
        settings = Settings.from_dict(args.base.to_dict() | values | given)
        folder = _new_folder(args.out, settings)
    times = PhaseTimes(synchronize=True)
    callbacks: list[Callback] = [times] if args.times else []
    if args.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    resume = (folder / "last.safetensors").exists()  # a run that was ended before its first checkpoint begins again
    outcome = train(settings, folder, resume=resume, command=args.command, callbacks=callbacks)
    if args.times:
        print(times.table())
    return INTERRUPTED if outcome.history.interrupted else 0


def _new_folder(wanted: Path | None, settings: Settings) -> Path:
    """Return a folder in which no run is lost: the one wanted, or the next free one named after model and data."""
    if wanted is not None:
        if wanted.is_dir() and any(wanted.iterdir()):
            raise ValueError(
                f"train: {wanted} is not empty; --resume {wanted} goes on with a run, another --out begins a new one"
            )
        return wanted
    data = Path(settings.data).stem if "/" in settings.data else parse_spec(settings.data)[0]
    name = f"{parse_spec(settings.model)[0]}-{data}"
    folder = Path("runs", name)
    number = 2
    while folder.exists():
        folder = Path("runs", f"{name}-{number}")
        number += 1
    return folder


def script(description: str, argv: Sequence[str] | None = None, **defaults: Any) -> int:
    """Be a script that is ``xpnet train`` with other defaults: parse its arguments, train, return the exit code.

    Parameters
    ----------
    description : str
        For ``--help``.
    argv : sequence of str, optional
        By default those of the program.
    **defaults
        Of the settings.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    add_arguments(parser, Settings(**defaults))
    args = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    args.command = shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *given])
    return guarded(lambda: run(args), verbose=args.verbose)
