"""xpnet train: a run from flags or a TOML file, and on from where another one ended."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shlex
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import data, models
from xpnet.cli.arguments import braces, choice, command_line
from xpnet.cli.guard import INTERRUPTED, guarded
from xpnet.data import augment
from xpnet.distributed import Communicator, ending_together
from xpnet.distributed.launch import KINDS, choose, join
from xpnet.models.spec import is_own
from xpnet.run import Settings, open_settings, train
from xpnet.run.data import resolved
from xpnet.run.scaling import RULES, scaled
from xpnet.text import parse_spec
from xpnet.training import Callback, PhaseTimes, TensorBoard

__all__ = ["add_arguments", "add_parser", "run", "script"]

NONE = "none"  # the flag's word for what a TOML file says by leaving a setting out

EXAMPLES = """examples:
  xpnet train --model lenet --data mnist --epochs 2
  xpnet train --model resnet20 --data cifar10 --augment crop:4,flip --validation 0.1 --schedule cosine
  xpnet train --config runs/lenet-mnist/settings.toml --seed 1 --augment none
  xpnet train --resume runs/lenet-mnist
  mpiexec -n 4 python -m xpnet train --distributed --model resnet20 --data cifar10 --batch-size 256
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("train", help="train a model on a data set and leave everything in a folder")
    parser.epilog, parser.formatter_class = f"{_names()}\n\n{EXAMPLES}", argparse.RawDescriptionHelpFormatter
    add_arguments(parser, Settings())
    parser.set_defaults(func=run)


def _names() -> str:
    """Return what there is to name, in lines about as wide as argparse makes its own."""
    known = {"models": models.names(), "data sets": data.names(), "augmentations": augment.names()}
    width = max(40, shutil.get_terminal_size().columns - 2)
    return "\n".join(
        textwrap.fill(", ".join(names), width, initial_indent=f"{what}: ", subsequent_indent="  ")
        for what, names in known.items()
    )


def add_arguments(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """Add a flag for each of the settings, and where they come from and the results go."""
    kinds = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        _add_setting(parser, field, kinds[field.name], getattr(defaults, field.name))
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the results; by default a new one, runs/MODEL-DATA"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings in TOML; flags go before it, and none takes away what it says",
    )
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run in this folder")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too, into the folder")
    parser.add_argument("--times", action="store_true", help="show at the end where the time of the steps went")
    parser.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        type=choice(KINDS),
        metavar=braces(KINDS),
        help="train on all processes that mpiexec or srun has started; batch sizes are those of all together",
    )
    parser.add_argument(
        "--scale-lr",
        type=choice(RULES),
        metavar=braces(RULES),
        help="take batch size and learning rate for those of one process, and scale both by their number",
    )
    parser.set_defaults(base=defaults, command=shlex.join(["xpnet", *sys.argv[1:]]))


def _add_setting(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], kind: Any, default: Any) -> None:
    """Add the flag of one setting; what was not given is not among the parsed arguments, so that a file may say it."""
    shown = "" if default is None else f" ({default})"
    choices = field.metadata.get("choices")
    optional = isinstance(kind, types.UnionType)
    if optional:
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
        choices = choices and (*choices, NONE)
        shown += f"; or {NONE}"
    parse = choice(choices) if choices else kind
    parser.add_argument(
        "--" + field.name.replace("_", "-"),
        type=_or_none(parse, kind) if optional else parse,
        metavar=field.metadata.get("metavar") or (braces(choices) if choices else _metavar(kind)),
        default=argparse.SUPPRESS,
        help=(field.metadata["help"] + shown).replace("%", "%%"),
    )


def _or_none(parse: Callable[[str], Any], kind: type) -> Callable[[str], Any]:
    """Return what parses the flag of a setting that may have no value."""

    def parse_or_none(text: str) -> Any:
        return None if text == NONE else parse(text)

    parse_or_none.__name__ = kind.__name__  # of which argparse speaks in its errors
    return parse_or_none


def _metavar(kind: type) -> str:
    return {int: "N", float: "X", str: "TEXT"}[kind]


def run(args: argparse.Namespace) -> int:
    """Train; return the exit code."""
    if args.distributed is None:
        if args.scale_lr is not None:
            raise ValueError("train: --scale-lr goes by the number of processes; it needs --distributed")
        return _run(args, None)
    comm = join()
    with ending_together(comm, verbose=getattr(args, "verbose", False)):
        return _run(args, comm)


def _run(args: argparse.Namespace, comm: Communicator | None) -> int:
    plan = functools.partial(_plan, args, 1 if comm is None else comm.size)
    settings, folder, resume, made = plan() if comm is None else comm.from_root(plan)
    try:
        return _train(args, comm, settings, folder, resume)
    except KeyboardInterrupt:  # a second one, or one while results were written
        if (comm is None or comm.is_root) and (folder / "last.safetensors").exists():
            command = f"xpnet train --resume {shlex.quote(str(folder))}"
            print(f"saved up to the last checkpoint; to go on: {command}", file=sys.stderr)
        raise
    finally:
        with contextlib.suppress(OSError):  # not empty, as soon as anything has been written
            for path in made:
                path.rmdir()


def _train(args: argparse.Namespace, comm: Communicator | None, settings: Settings, folder: Path, resume: bool) -> int:
    if comm is not None:
        comm = choose(comm, args.distributed, backend_name=settings.backend, dtype=settings.dtype)
    times = PhaseTimes(synchronize=True)
    callbacks: list[Callback] = [times] if args.times else []
    if args.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    # a loss that is no longer finite ends in a message of its own, which warnings of every operation would bury
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        outcome = train(settings, folder, resume=resume, command=args.command, callbacks=callbacks, communicator=comm)
    if args.times and (comm is None or comm.is_root):
        print(times.table())
    return INTERRUPTED if outcome.history.interrupted else 0


def _plan(args: argparse.Namespace, ranks: int) -> tuple[Settings, Path, bool, list[Path]]:
    """Return what the flags say: settings, folder, whether a run goes on there, and the folders made for it."""
    made: list[Path] = []
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Settings) if hasattr(args, f.name)}
    if args.resume is not None:
        if args.config is not None or args.out is not None:
            raise ValueError("train: --resume takes settings and folder of the run; leave out --config and --out")
        saved = open_settings(args.resume)
        changed = {name for name in given if given[name] != getattr(saved, name)}
        fixed = {f"--{name.replace('_', '-')}" for name in changed - {"epochs", "backend", "on_device", "cuda_graph"}}
        fixed |= set() if args.scale_lr is None else {"--scale-lr"}
        if fixed:
            raise ValueError(
                "train: a run that is resumed keeps its settings "
                "(only epochs, backend, on-device and cuda-graph may change): " + ", ".join(sorted(fixed))
            )
        _check_checkpoint(args.resume)
        settings, folder = dataclasses.replace(saved, **given), args.resume
    else:
        values = Settings.read(args.config) if args.config is not None else {}
        settings = Settings.from_dict(args.base.to_dict() | values | given)
        if args.scale_lr is not None:
            settings = _scaled(settings, ranks, args.scale_lr)
        if args.out is None:
            made = _new_folder(settings)
        folder = made[0] if made else _empty(args.out)
    # a run that was ended before its first checkpoint begins again
    return settings, folder, (folder / "last.safetensors").exists(), made


def _check_checkpoint(folder: Path) -> None:
    """Raise if a run that has got as far as a checkpoint has lost it: it would begin again, over its results."""
    if (folder / "last.safetensors").exists():
        return
    there = [name for name in ("best.safetensors", "history.json") if (folder / name).exists()]
    log = folder / "log.csv"
    if log.exists() and len(log.read_bytes().splitlines()) > 1:
        there.append(log.name)
    if there:
        copy = " (a copy of best.safetensors goes on from the best epoch)" if "best.safetensors" in there else ""
        raise ValueError(
            f"train: {folder} has {', '.join(there)}, but no last.safetensors to go on from; put it back{copy}, "
            f"or begin a new run: xpnet train --config {folder / 'settings.toml'}"
        )


def _scaled(settings: Settings, ranks: int, rule: str) -> Settings:
    """Return the settings for several processes, and say what they have become."""
    found = scaled(settings, ranks, rule)
    print(
        f"{ranks} ranks: batch size {settings.batch_size} -> {found.batch_size}, learning rate {settings.lr:g} -> "
        f"{found.lr:g} ({rule} rule), rising over {found.warmup} epochs"
    )
    return found


def _empty(wanted: Path) -> Path:
    """Return the folder that is wanted, if no run is lost there."""
    if wanted.is_dir() and any(wanted.iterdir()):
        raise ValueError(
            f"train: {wanted} is not empty; --resume {wanted} goes on with a run, another --out begins a new one"
        )
    if wanted.exists() and not wanted.is_dir():
        raise ValueError(f"train: --out {wanted} is a file, expected a folder; give another one")
    return wanted


def _new_folder(settings: Settings) -> list[Path]:
    """Make the next free folder named after model and data; return it, and the one around it if that is new too.

    Making it is what claims it: of runs that are begun at the same time, each gets another.
    """
    found = resolved(settings.data)
    data = Path(found).stem if "/" in found else parse_spec(found)[0]
    model = settings.model.replace(":", ".") if is_own(settings.model) else parse_spec(settings.model)[0]
    name = f"{model}-{data}"
    runs = Path("runs")
    around = [] if runs.exists() else [runs]
    if runs.exists() and not runs.is_dir():
        raise ValueError("train: runs is a file here, expected a folder for the results; name one by --out")
    runs.mkdir(exist_ok=True)
    folder = runs / name
    number = 2
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder = runs / f"{name}-{number}"
            number += 1
        else:
            return [folder, *around]


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
    given = command_line(argv)
    args = parser.parse_args(given)
    args.command = shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *given])
    return guarded(lambda: run(args), verbose=args.verbose)
