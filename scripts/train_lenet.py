#!/usr/bin/env python3
"""Train LeNet on MNIST, Fashion-MNIST or, where neither is found, on the 8x8 digits enlarged to 32x32."""

from __future__ import annotations

import argparse
import sys

from _common import add_arguments, run

from xpnet import data
from xpnet.models import LeNet


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        choices=("auto", "mnist", "fashion_mnist", "digits"),
        default="auto",
        help="auto: MNIST where it is found under XPNET_DATA or in the cache, else the digits, which need no "
        "network; mnist and fashion_mnist are downloaded if they are not found (%(default)s)",
    )
    parser.add_argument("--variant", choices=("modern", "1998"), default="modern", help="(%(default)s)")
    parser.add_argument(
        "--activation",
        choices=("sigmoid", "relu", "tanh"),
        default="sigmoid",
        help="of the hidden layers (%(default)s)",
    )
    add_arguments(parser, epochs=15, batch_size=64, optimizer="adam", lr=0.001, out="runs/lenet")
    args = parser.parse_args(argv)

    def load() -> data.Dataset:
        options = {"upscale": 4} if args.data in ("auto", "digits") else {}
        return data.load(args.data, **options).scaled(-1.0, 1.0)

    return run(
        args, lambda dataset: LeNet(len(dataset.classes), variant=args.variant, activation=args.activation), load
    )


if __name__ == "__main__":
    sys.exit(main())
