#!/usr/bin/env python3
"""Show what the classical image filters make of a picture: a labelled grid, saved as a file."""

import argparse
import sys

from xpnet.cli.filters import add_arguments, run
from xpnet.cli.guard import guarded


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
