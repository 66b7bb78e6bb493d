#!/usr/bin/env python3
"""Show what the classical image filters make of a picture: a labelled grid, saved as a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _common import INTERRUPTED, positive

from xpnet import backend, filters
from xpnet.errors import BackendUnavailableError, DataError, MissingDependencyError, OperationError
from xpnet.files import atomic_write
from xpnet.optional import require


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
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
        "--size", type=positive, default=320, help="shrink the picture until no side is longer (%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/filters/filters.png"),
        help="the file, of the format that its ending names: png, pdf, svg, ... (%(default)s)",
    )
    parser.add_argument(
        "--backend",
        help="auto, numpy, cupy[:device], torch[:device] or array_api_strict[:device]; "
        "by default the environment variable XPNET_BACKEND, else auto: CuPy where there is a GPU, else NumPy",
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.filters if name not in filters.names()]
    if unknown:
        parser.error(f"--filters: no filter {unknown[0]!r}; there are {', '.join(filters.names())}")
    try:
        return run(args)
    except BackendUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DataError, MissingDependencyError, OperationError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def run(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend)
    kind = kind_of(args.out)  # now, so that a name that cannot be written is refused at once
    image = shrunk(filters.read(args.image, grey=args.grey) if args.image else photo(args.grey), args.size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure = filters.plot(backend.asarray(image), args.filters)
    with atomic_write(args.out) as file:
        figure.savefig(file, format=kind, dpi=120)
    height, width = image.shape[:2]
    print(f"{len(args.filters)} filters on {width}x{height} pixels; backend {chosen.name}")
    print(f"picture  {args.out}")
    return 0


def photo(grey: bool) -> npt.NDArray[np.uint8]:
    datasets = require("sklearn.datasets", "the default picture")
    image = datasets.load_sample_image("china.jpg")
    return np.array(require("PIL.Image", "reading pictures").fromarray(image).convert("L")) if grey else image


def shrunk(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    picture = require("PIL.Image", "reading pictures").fromarray(image)
    picture.thumbnail((size, size))
    return np.array(picture)


def kind_of(path: Path) -> str:
    kinds = require("matplotlib.backend_bases", "plotting").FigureCanvasBase.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise ValueError(
            f"--out {path}: cannot write this kind of file; its name may end in {', '.join(sorted(kinds))}"
        )
    return kind


if __name__ == "__main__":
    sys.exit(main())
