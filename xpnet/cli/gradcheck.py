"""``xpnet gradcheck``: is the backward pass of a model right?"""

from __future__ import annotations

import argparse
from typing import Any

from xpnet import backend
from xpnet.cli import arguments
from xpnet.cli.guard import FAILED
from xpnet.errors import DTypeError, OperationError
from xpnet.layers import Layer

__all__ = ["add_parser"]

WORK = 5e10  # multiply-adds that a check may take before fewer elements are looked at: some seconds to a minute
FORWARDS = 5  # for each element: see `xpnet.gradcheck`
MOST = 20  # elements of an array


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("gradcheck", help="gradients of a model against central differences")
    arguments.add_model_arguments(parser)
    arguments.add_backend_argument(parser)
    parser.add_argument(
        "--dtype", type=_precise, metavar="{float64,float32}", default="float64", help="float type (%(default)s)"
    )
    arguments.add_seed_argument(parser, "weights, samples and choice of elements")
    parser.add_argument("--batch", type=arguments.positive, default=2, help="samples (%(default)s)")
    parser.add_argument(
        "--samples",
        type=arguments.positive,
        metavar="N",
        help=f"elements of each parameter to check; by default {MOST}, fewer for a model that takes long",
    )
    arguments.add_loss_argument(parser)
    parser.set_defaults(func=run)


def _precise(text: str) -> str:
    from xpnet.gradcheck import require_precise

    arguments.choice(backend.DTYPES)(text)
    try:
        require_precise(text)
    except DTypeError as error:
        raise argparse.ArgumentTypeError(error.detail) from None
    return text


def run(args: argparse.Namespace) -> int:
    """Check, print the table of the worst elements, and fail if any is wrong."""
    from xpnet.gradcheck import check_gradients

    chosen = arguments.use_backend(args)
    model = arguments.make_model(args)
    shape = _small_input(model, arguments.input_shape(args, model)) if args.input is None else args.input
    loss = args.loss or arguments.fitting_loss(model.output_shape(shape))
    model = arguments.build_model(args, model, shape)
    count = len(model.parameters()) + 1
    forward = max(1, model.summary(shape).multiply_adds) * args.batch
    samples = args.samples or max(1, min(MOST, int(WORK / (count * FORWARDS * forward))))
    print(
        f"{args.model} on {args.batch} samples of {shape}, {chosen.name}, {args.dtype}; "
        f"{samples} elements of each of {count} arrays",
        flush=True,
    )
    x, t = arguments.random_batch(model.output_shape(shape), shape, args.batch, loss, args.seed)
    x, t = (backend.asarray(a, dtype=chosen.dtype if a.dtype.kind == "f" else None) for a in (x, t))
    report = check_gradients(model, x, t, loss=loss, samples=samples, seed=args.seed)
    print(report)
    return 0 if report.passed else FAILED


def _small_input(model: Layer, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Return a smaller image than the usual one that the model takes too: gradients do not depend on the size."""
    if model.built or len(usual) != 3:
        return usual
    for size in (64, 96, 128):
        if size < min(usual[1:]):
            try:
                model.output_shape((usual[0], size, size))
            except OperationError:
                continue
            return usual[0], size, size
    return usual
