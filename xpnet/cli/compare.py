"""``xpnet compare``: one training step on several backends, layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from xpnet import backend
from xpnet.cli import arguments
from xpnet.cli.guard import FAILED

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("compare", help="a model on several backends: which layer differs first")
    arguments.add_model_arguments(parser)
    parser.add_argument(
        "--backends",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        required=True,
        metavar="NAME,NAME,...",
        help="such as numpy,torch,cupy; the first is the reference",
    )
    arguments.add_dtype_argument(parser)
    arguments.add_seed_argument(parser, "weights and random samples")
    parser.add_argument(
        "--data", metavar="NAME", help="test images of a data set, such as mnist; by default random numbers"
    )
    parser.add_argument("--batch", type=arguments.positive, default=8, help="samples (%(default)s)")
    parser.add_argument(
        "--tolerance", type=float, help="relative error of one operation; by default by float type, 1e-5 for float32"
    )
    parser.add_argument(
        "--end-to-end",
        action="store_true",
        help="let differences travel on through the model; by default every layer gets the reference's input",
    )
    arguments.add_loss_argument(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compare, print the table, and fail if results part."""
    from xpnet.compare import compare_backends

    batch = classes = None
    if args.data is not None:
        from xpnet import data

        images = data.load(args.data).scaled()
        args.input = args.input or images.input_shape
        classes = len(images.classes)
        batch = images.x_test[: args.batch], images.t_test[: args.batch]
    model = arguments.make_model(args, classes)
    shape = arguments.input_shape(args, model)
    output = model.output_shape(shape)
    loss = args.loss or arguments.fitting_loss(output)
    x, t = batch or arguments.random_batch(output, shape, args.batch, loss, args.seed)
    if args.backends:
        with backend.using(args.backends[0], dtype=args.dtype):
            arguments.build_model(args, model, shape)
    report = compare_backends(
        model, x, t, args.backends, loss=loss, dtype=args.dtype, tolerance=args.tolerance, isolate=not args.end_to_end
    )
    print(report)
    return 0 if report.passed else FAILED
