#!/usr/bin/env python3
"""Measure training steps, inference and single operations beside PyTorch and a textbook im2col network.

Every workload runs in a process of its own, in which all rivals take turns; PyTorch's columns are there where it is
installed. How time grows, and the peak memory of a large network, are measured on demand.

Examples:
  python scripts/benchmark.py --workloads lenet-64 resnet20 --threads 2 --json result.json
  python scripts/benchmark.py --scaling
  python scripts/benchmark.py --memory-of vgg16
"""

import argparse
import sys

from xpnet.cli.bench import add_arguments, run
from xpnet.cli.guard import guarded


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
