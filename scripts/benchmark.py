"""Measure training steps, inference and single operations beside PyTorch and a textbook im2col network.

Every workload runs in a process of its own, in which all rivals take turns; PyTorch's columns are there where it is
installed. Example: python scripts/benchmark.py --workloads lenet-64 resnet20 --threads 2 --json result.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from _common import positive

from xpnet.bench import OPERATIONS, WORKLOADS, benchmark, tables
from xpnet.files import atomic_write


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", choices=tuple(WORKLOADS), default=list(WORKLOADS), metavar="NAME",
                        help=f"by default all: {', '.join(WORKLOADS)}")  # fmt: skip
    parser.add_argument("--operations", nargs="*", choices=tuple(OPERATIONS), default=[], metavar="NAME",
                        help="layers to measure alone; without names, all of them")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--train", action="store_const", dest="modes", const=("train",), help="training steps only")
    which.add_argument("--inference", action="store_const", dest="modes", const=("inference",), help="inference only")
    parser.add_argument("--backend", default="numpy", help="of xpnet: numpy, torch, ... (%(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of BLAS and of PyTorch (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few repetitions and no peak memory: a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    args = parser.parse_args(argv)
    operations = args.operations or (list(OPERATIONS) if "--operations" in (argv or sys.argv) else [])
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    try:
        result = benchmark(
            args.workloads,
            operations,
            modes=args.modes or ("train", "inference"),
            memory=not args.quick,
            backend=args.backend,
            threads=args.threads,
            rounds=3 if args.quick else 9,
            seconds=0.1 if args.quick else 0.4,
            progress=lambda what: print(what, file=sys.stderr, flush=True),
        )
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(tables(result))
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
