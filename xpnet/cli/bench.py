"""``xpnet bench``: training steps, inference and single operations beside PyTorch and a textbook network."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from xpnet.cli import arguments

__all__ = ["add_arguments", "add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("bench", help="measure steps and operations beside PyTorch, taking turns")
    add_arguments(parser)
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from xpnet.bench import CURVES, LARGE, OPERATIONS, WORKLOADS

    parser.add_argument(
        "--workloads",
        nargs="*",
        type=arguments.choice(WORKLOADS),
        metavar="NAME",
        help=f"by default all if nothing else is asked for; without names none: {', '.join(WORKLOADS)}",
    )
    parser.add_argument(
        "--operations",
        nargs="*",
        type=arguments.choice(OPERATIONS),
        metavar="NAME",
        help="layers to measure alone; without names, all of them",
    )
    parser.add_argument(
        "--scaling",
        nargs="*",
        type=arguments.choice(CURVES),
        metavar="NAME",
        help="how time grows with the batch of a network, and with images, channels and pixels of a convolution; "
        "without names, all of them",
    )
    parser.add_argument(
        "--memory-of",
        nargs="+",
        type=arguments.choice((*LARGE, *WORKLOADS)),
        default=[],
        metavar="NAME",
        help=f"networks whose peak memory alone is measured: a workload, or {', '.join(LARGE)}",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--train", action="store_const", dest="modes", const=("train",), help="training steps only")
    which.add_argument("--inference", action="store_const", dest="modes", const=("inference",), help="inference only")
    parser.add_argument("--batch", type=arguments.positive, metavar="N", help="of all networks, in place of their own")
    arguments.add_backend_argument(parser)
    parser.add_argument("--threads", type=arguments.positive, default=1, help="of BLAS and of PyTorch (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few repetitions and no peak memory: a first look")
    parser.add_argument("--json", type=arguments.new_file, metavar="FILE", help="write everything that was measured")


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON file."""
    from xpnet import backend
    from xpnet.bench import CURVES, OPERATIONS, WORKLOADS, benchmark, tables
    from xpnet.files import atomic_write
    from xpnet.text import as_json

    # here, so that one that cannot be used ends in its own line, and not in that of a process that measures
    with backend.using(args.backend, dtype="float32") as selected:
        name = selected.name
    operations = [] if args.operations is None else args.operations or list(OPERATIONS)
    scaling = [] if args.scaling is None else args.scaling or list(CURVES)
    workloads = args.workloads
    if workloads is None:
        workloads = [] if operations or scaling or args.memory_of else list(WORKLOADS)
    result = benchmark(
        workloads,
        operations,
        scaling=scaling,
        memory_of=args.memory_of,
        modes=args.modes or ("train", "inference"),
        batch=args.batch,
        memory=not args.quick,
        backend=name,
        threads=args.threads,
        rounds=3 if args.quick else 9,
        seconds=0.1 if args.quick else 0.4,
        progress=lambda what: print(what, file=sys.stderr, flush=True),
    )
    print(tables(result))
    if args.json:
        with atomic_write(args.json) as file:
            file.write(as_json(result, indent=1).encode() + b"\n")
    return 0
