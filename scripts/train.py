#!/usr/bin/env python3
"""Train any of xpnet's models on any of its data sets."""

from __future__ import annotations

import argparse
import sys

from _common import add_arguments, run

from xpnet import data, models


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", choices=models.names(), required=True, metavar="NAME", help=", ".join(models.names())
    )
    parser.add_argument("--data", choices=("mnist", "fashion_mnist", "digits"), required=True)
    parser.add_argument("--upscale", type=int, default=1, help="enlarge the 8x8 digits so many times (%(default)s)")
    add_arguments(parser, epochs=20, batch_size=100, optimizer="adam", lr=0.001, out="runs/train")
    args = parser.parse_args(argv)
    if args.upscale != 1 and args.data != "digits":
        parser.error("--upscale is for --data digits")

    def load() -> data.Dataset:
        options = {"upscale": args.upscale} if args.data == "digits" else {}
        return data.load(args.data, **options).scaled()

    return run(args, lambda dataset: models.by_name(args.model, len(dataset.classes)), load)


if __name__ == "__main__":
    sys.exit(main())
