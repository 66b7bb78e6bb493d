"""``xpnet evaluate``: what a trained model does on the test images, class by class."""

from __future__ import annotations

import argparse
from typing import Any

from xpnet.cli import arguments
from xpnet.cli.saved_run import add_run_argument, chosen_run

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("evaluate", help="measure a trained model on the test images")
    add_run_argument(parser)
    parser.add_argument("--data", metavar="NAME", help="by default the data set that the run was trained on")
    parser.add_argument("--limit", type=arguments.positive, metavar="N", help="the first so many test images only")
    parser.add_argument("--batch-size", type=arguments.positive, default=256, help="images at a time (%(default)s)")
    parser.add_argument("--json", type=arguments.new_file, metavar="FILE", help="write the numbers")
    arguments.add_backend_arguments(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from xpnet.files import atomic_write
    from xpnet.run import open_run
    from xpnet.run.data import evaluation_data, held_out, pixel_scale
    from xpnet.text import as_json
    from xpnet.training import ConfusionMatrix, evaluate

    arguments.use_backend(args)
    saved = open_run(chosen_run(args))
    data = evaluation_data(saved, args.data, args.limit)
    matrix = ConfusionMatrix()
    scale = pixel_scale(saved.settings.pixels, data.max_value)  # of these data: theirs may be of another range
    tests = held_out(*data.test, scale, batch_size=args.batch_size)
    measured = evaluate(saved.model, tests, metrics=[matrix, *(["top5"] if len(saved.classes) > 5 else [])])
    assert measured.accuracy is not None
    print(f"{saved.path} ({saved.epochs} epochs) on {len(data.test.t):,} test images of {data.name}")
    top = f", among the best five {measured.metrics['top5']:.4f}" if "top5" in measured.metrics else ""
    print(f"accuracy {measured.accuracy:.4f}{top}, loss {measured.loss:.4f}")
    print(matrix.scores().table(saved.classes))
    if args.json is not None:
        numbers = {"loss": measured.loss, "accuracy": measured.accuracy, "classes": saved.classes}
        numbers |= {**measured.metrics, "confusion_matrix": matrix.result().tolist()}
        with atomic_write(args.json) as file:
            file.write((as_json(numbers, indent=2) + "\n").encode())
    return 0
