"""``xpnet show``: pictures of what a trained model has learnt, where it is wrong, and what it was fed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli import arguments
from xpnet.cli.saved_run import add_run_argument, chosen_run

if TYPE_CHECKING:
    from xpnet.data import Dataset
    from xpnet.run import SavedRun

__all__ = ["add_parser"]

IMAGES = 1000  # of the test set, at most, that the model is shown for a picture


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("show", help="draw filters, feature maps, mistakes and more of a trained model")
    parser.add_argument(
        "what",
        nargs="?",  # without it, `run` says which there are
        type=arguments.choice(PICTURES),
        metavar="WHAT",
        help=f"the picture to draw: {', '.join(PICTURES)}",
    )
    add_run_argument(parser)
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture; by default a test image")
    parser.add_argument("--index", type=int, metavar="N", help="which test image; by default the first, 0")
    parser.add_argument("--layer", metavar="PATH", help="of the model, as xpnet summary names it")
    parser.add_argument("--augment", metavar="LIST", help="changes to show; by default those of the run, else all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="by default WHAT.png beside the checkpoint")
    arguments.add_backend_arguments(parser)
    arguments.add_seed_argument(parser, "random changes")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Draw the picture and say where it is."""
    if args.what is None:
        raise ValueError(f"show: name the picture to draw: {', '.join(PICTURES)}")
    _check_arguments(args)
    from xpnet.run import open_run
    from xpnet.run.data import evaluation_data
    from xpnet.viz.saving import check_figure_path, save_figure

    arguments.use_backend(args)
    saved = open_run(chosen_run(args))
    path = args.out or saved.path.parent / f"{args.what}.png"
    check_figure_path(path)
    data = None if args.what in ("filters", "model") or args.image else evaluation_data(saved)
    save_figure(PICTURES[args.what](args, saved, data), path, dpi=150)
    print(path)
    return 0


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse arguments that the picture does not depend on: whoever gave them expects another one."""
    taken = TAKES.get(args.what, ())
    for name in ("image", "index", "layer", "augment"):
        if getattr(args, name) is not None and name not in taken:
            known = f"it takes {', '.join(f'--{other}' for other in taken)}" if taken else "it takes none of the kind"
            raise ValueError(f"show {args.what}: --{name} means nothing here ({known}); leave it out")
    if args.image is not None and args.index is not None:
        raise ValueError(f"show {args.what}: --image and --index name two pictures; give one of them")


def _sample(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    """Return one image (C, H, W) as the model takes it: the file that was named, or a test image."""
    from xpnet.data.images import read_image

    if args.image is not None:
        channels, height, width = saved.input_shape
        picture = read_image(args.image, size=(height, width), channels=channels)
        return saved.prepared(picture[None] * (saved.max_value / 255.0))[0]
    assert data is not None
    index = args.index or 0
    if not 0 <= index < len(data.test.t):
        raise ValueError(f"show: --index must be from 0 to {len(data.test.t) - 1}, got {index}")
    return saved.prepared(data.test.x[index : index + 1])[0]


def _filters(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz
    from xpnet.errors import WeightsError
    from xpnet.run.saved import build_model
    from xpnet.run.start import load_start

    untrained = build_model(saved.settings, len(saved.classes), saved.input_shape, outside=saved.path.parent)
    if saved.settings.weights is not None:
        try:
            load_start(untrained, saved.settings.weights)
        except WeightsError as error:
            print(f"without the filters before training: {error}")
            return viz.plot_filters(saved.model, args.layer)
    return viz.plot_filters(saved.model, args.layer, before=untrained.state_dict())


def _feature_maps(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz

    layers = None if args.layer is None else args.layer.split(",")
    return viz.plot_feature_maps(saved.model, _sample(args, saved, data), layers)


def _saliency(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz

    return viz.plot_saliency(saved.model, _sample(args, saved, data), classes=saved.classes)


def _receptive_fields(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz

    layers = None if args.layer is None else args.layer.split(",")
    return viz.plot_receptive_fields(saved.model, _sample(args, saved, data), layers)


def _model(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz

    return viz.plot_model(saved.model)


def _confusion(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz
    from xpnet.run.data import held_out
    from xpnet.training import evaluate

    assert data is not None
    measured = evaluate(saved.model, held_out(*data.test, saved.scale), metrics=["confusion_matrix"])
    return viz.plot_confusion_matrix(measured.metrics["confusion_matrix"], saved.classes)


def _misclassified(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet import viz
    from xpnet.training import predict

    assert data is not None
    x = saved.prepared(data.test.x[:IMAGES])
    return viz.plot_misclassified(x, data.test.t[:IMAGES], predict(saved.model, x), saved.classes)


def _augmentation(args: argparse.Namespace, saved: SavedRun, data: Dataset | None) -> Any:
    from xpnet.data import augment

    text = args.augment or saved.settings.augment
    changes = None if text is None else augment.parse(text, classes=len(saved.classes)).augmentations
    return augment.plot_gallery(_sample(args, saved, data)[None, ...], changes, seed=args.seed)


PICTURES: dict[str, Callable[[argparse.Namespace, SavedRun, Dataset | None], Any]] = {
    "filters": _filters,
    "feature-maps": _feature_maps,
    "confusion": _confusion,
    "misclassified": _misclassified,
    "augmentation": _augmentation,
    "saliency": _saliency,
    "receptive-fields": _receptive_fields,
    "model": _model,
}

TAKES = {  # of the arguments that say what is drawn; the other pictures take none
    "filters": ("layer",),
    "feature-maps": ("image", "index", "layer"),
    "augmentation": ("image", "index", "augment"),
    "saliency": ("image", "index"),
    "receptive-fields": ("image", "index", "layer"),
}
