"""``xpnet summary``: a model layer by layer, and the memory that training it takes."""

from __future__ import annotations

import argparse
import os
from typing import Any

from xpnet import backend
from xpnet.cli import arguments

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("summary", help="layers, parameters and training memory of a model")
    arguments.add_model_arguments(parser, weights=False)
    arguments.add_dtype_argument(parser)
    parser.add_argument("--batch", type=arguments.positive, default=32, help="samples in a training step (%(default)s)")
    parser.add_argument("--optimizer", default="adam", help="sgd, momentum, adam, ... (%(default)s)")
    parser.add_argument(
        "--memory", type=arguments.memory_size, metavar="SIZE", help="tell the largest batch that fits, such as 4GB"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; nothing is built."""
    model = arguments.make_model(args)
    dtype = args.dtype or os.environ.get("XPNET_DTYPE") or "float32"
    # only the size of a number counts here, and NumPy has no bfloat16
    with backend.using("numpy", dtype="float16" if dtype == "bfloat16" else dtype):
        summary = model.summary(arguments.input_shape(args, model))
    print(summary)
    print(f"\na training step of {args.batch} samples with {args.optimizer}, {dtype}")
    print(summary.training_memory(args.batch, args.optimizer))
    if args.memory:
        batch = summary.largest_batch(args.memory, args.optimizer)
        print(f"\nlargest batch within {args.memory:,} bytes: {batch if batch else 'none, one sample takes more'}")
    return 0
