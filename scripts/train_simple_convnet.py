#!/usr/bin/env python3
"""Train SimpleConvNet, the network of chapter 7 of "Deep Learning from Scratch", on MNIST."""

from __future__ import annotations

import argparse
import sys

from _common import add_arguments, run

from xpnet import data
from xpnet.models import SimpleConvNet


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("mnist", "fashion_mnist"), default="mnist", help="(%(default)s)")
    parser.add_argument("--no-conv-relu", action="store_true", help="leave out the relu after the convolution")
    add_arguments(parser, epochs=20, batch_size=100, optimizer="adam", lr=0.001, out="runs/simple_convnet")
    args = parser.parse_args(argv)
    activation = None if args.no_conv_relu else "relu"
    return run(args, lambda: SimpleConvNet(conv_activation=activation), lambda: data.load(args.data).scaled())


if __name__ == "__main__":
    sys.exit(main())
