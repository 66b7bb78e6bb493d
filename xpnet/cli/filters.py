"""``xpnet filters``: what the classical image filters make of a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnet.cli import arguments

__all__ = ["add_arguments", "add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("filters", help="show what the classical image filters make of a picture")
    add_arguments(parser)
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from xpnet import filters

    parser.add_argument("image", nargs="?", type=Path, help="a picture file; by default a photo of scikit-learn's")
    parser.add_argument(
        "--filters",
        type=lambda text: list(dict.fromkeys(name.strip() for name in text.split(","))),
        default=filters.names(),
        metavar="NAME,NAME",
        help=f"some of {', '.join(filters.names())}; by default all",
    )
    parser.add_argument("--grey", action="store_true", help="turn colours into grey first")
    parser.add_argument(
        "--size",
        type=arguments.positive,
        default=320,
        help="shrink the picture until no side is longer (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/filters/filters.png"),
        help="the file, of the format that its ending names: png, pdf, svg, ... (%(default)s)",
    )
    arguments.add_backend_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Filter, draw, and say where the picture is."""
    from xpnet import backend, filters
    from xpnet.viz.saving import check_figure_path, save_figure

    chosen = arguments.use_backend(args)
    check_figure_path(args.out)
    for name in args.filters:
        filters.kernel(name)  # an unknown name is refused before the picture is read
    image = _picture(args.image, grey=args.grey, size=args.size)
    save_figure(filters.plot(backend.asarray(image), args.filters), args.out)
    height, width = image.shape[:2]
    print(f"{len(args.filters)} filters on {width}x{height} pixels; backend {chosen.name}")
    print(args.out)
    return 0


def _picture(path: Path | None, *, grey: bool, size: int) -> Any:
    """Return uint8 (H, W) or (H, W, 3) with no side longer than `size`."""
    import numpy as np

    from xpnet.data import read_image
    from xpnet.optional import require

    pillow = require("PIL.Image", "reading pictures")
    if path is None:
        photo = require("sklearn.datasets", "the default picture").load_sample_image("china.jpg")
        picture = pillow.fromarray(photo).convert("L" if grey else "RGB")
    else:
        pixels = read_image(path, channels=1 if grey else None)
        picture = pillow.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())
    picture.thumbnail((size, size))
    return np.array(picture)
