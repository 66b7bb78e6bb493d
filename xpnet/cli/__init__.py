"""The command ``xpnet``: one module for each subcommand, what they share in `arguments` and `guard`.

A command's module has `add_parser(subparsers)`, which sets ``func``, a function from the parsed arguments to the exit
code, and imports what only it needs inside of its functions.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from types import ModuleType

import xpnet
from xpnet.cli import bench, compare, doctor, evaluate, filters, gradcheck, predict, show, summary, train
from xpnet.cli.arguments import command_line
from xpnet.cli.guard import UNUSABLE, guarded, interrupted
from xpnet.text import near, no_such

__all__ = ["main"]

COMMANDS: tuple[ModuleType, ...] = (train, evaluate, predict, show, summary, gradcheck, compare, filters, bench, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        By default that of the process.

    Returns
    -------
    int
        0: done; 1: something went wrong, a value that cannot be included, or a check has failed; 2: a command line that
        cannot be parsed, or a backend that cannot be used; 130: Ctrl-C; 143: SIGTERM; 141: the reader of the output has
        gone.

    Examples
    --------
    >>> from xpnet.cli import main
    >>> main(["summary", "--model", "no_such"])
    1
    """
    try:
        given = command_line(argv)
        parser, commands = _parser()
        command = _suggest(parser, list(commands), given)
        args, rest = parser.parse_known_args(given)
        if rest:
            _refuse(commands.get(command, parser), rest)
        if not hasattr(args, "func"):
            parser.print_help()
            parser.exit(UNUSABLE)
    except SystemExit as end:  # argparse has said what is wrong
        return int(end.code or 0)
    except KeyboardInterrupt:
        return interrupted()
    verbose = getattr(args, "verbose", False)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    return guarded(args.func, args, verbose=verbose)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    # on both sides of the command; SUPPRESS, or the default of the one would undo what was given to the other
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--verbose", action="store_true", default=argparse.SUPPRESS, help="show log lines, and tracebacks of errors"
    )
    parser = argparse.ArgumentParser(
        prog="xpnet",
        description="Convolutional networks on NumPy, CuPy, torch or any array API library.",
        epilog="xpnet COMMAND --help lists the arguments of a command.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"xpnet {xpnet.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND ARGS")
    for command in COMMANDS:
        command.add_parser(_Subparsers(subparsers, common))
    return parser, dict(subparsers.choices)


class _Subparsers:
    """Gives every command its help line as its description, and the arguments common to all."""

    def __init__(
        self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
    ):
        self._subparsers, self._common = subparsers, common

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        return self._subparsers.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", parents=[self._common]
        )


def _suggest(parser: argparse.ArgumentParser, names: list[str], given: list[str]) -> str:
    """Refuse a command that there is not, with those that it may have meant; return that which there is, or nothing."""
    command = next((word for word in given if not word.startswith("-")), "")
    if command and command not in names:
        parser.error(no_such("command", command, names))
    return command


def _refuse(parser: argparse.ArgumentParser, rest: list[str]) -> None:
    """Refuse arguments that a command does not have, with what the first flag may have meant."""
    wrong = next((word.partition("=")[0] for word in rest if word.startswith("-")), "")
    flags = [flag for action in parser._actions for flag in action.option_strings]
    parser.error(f"unrecognized arguments: {' '.join(rest)}{near(wrong, flags, least=0.7)}")
