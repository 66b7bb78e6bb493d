"""``xpnet predict``: what a trained model takes pictures for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnet.cli import arguments
from xpnet.cli.saved_run import add_run_argument, chosen_run

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("predict", help="tell what a trained model takes pictures for")
    add_run_argument(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="of any format that Pillow reads")
    parser.add_argument("--top", type=arguments.positive, default=3, metavar="K", help="classes to show (%(default)s)")
    parser.add_argument(
        "--invert", action="store_true", help="dark on light where the model learnt light on dark, as for MNIST"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each picture")
    arguments.add_backend_arguments(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Predict and print."""
    import numpy as np

    from xpnet import backend
    from xpnet.data.images import read_image
    from xpnet.functional import softmax_forward
    from xpnet.run import open_run
    from xpnet.text import as_json

    arguments.use_backend(args)
    saved = open_run(chosen_run(args))
    channels, height, width = saved.input_shape
    # all are read before anything is printed, so that a wrong name among them is not overlooked
    pictures = [read_image(path, size=(height, width), channels=channels) for path in args.images]
    if not args.json:
        print(f"{saved.path} ({saved.epochs} epochs)")
    for path, picture in zip(args.images, pictures, strict=True):
        pixels = (255 - picture if args.invert else picture) * (saved.max_value / 255.0)
        y = saved.model.predict(saved.prepared(pixels[np.newaxis]))
        p = backend.to_numpy(softmax_forward(y)[0])[0]
        best = [(saved.classes[k], float(p[k])) for k in np.argsort(-p, kind="stable")[: args.top]]
        if args.json:
            print(as_json({"image": str(path), "classes": dict(best)}))
        else:
            print(f"{path}: " + ", ".join(f"{name} {share:.1%}" for name, share in best))
    return 0
