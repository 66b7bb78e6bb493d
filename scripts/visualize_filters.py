#!/usr/bin/env python3
"""Train a small convolutional network and look inside: filters, feature maps, what units answer to, what they see."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from _common import (
    add_basic_arguments,
    add_data_argument,
    guarded,
    new_figure,
    origin,
    positive,
    save_figure,
    save_results,
)

from xpnet import backend, data, models, viz
from xpnet.backend import to_numpy
from xpnet.layers import Layer, Pool2D
from xpnet.training import Trainer, predict

FIRST = {"simple_convnet": ("conv", "pool"), "lenet": ("conv1", "pool1")}  # the first convolution and its pooling


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/visualize_filters")
    add_data_argument(parser)
    parser.add_argument("--model", choices=sorted(FIRST), default="simple_convnet", help="(%(default)s)")
    parser.add_argument("--epochs", type=positive, default=5, help="passes over the training images (%(default)s)")
    parser.add_argument("--limit", type=positive, default=5000, help="training images at most (%(default)s)")
    parser.add_argument("--steps", type=positive, default=100, help="of activation maximisation (%(default)s)")
    parser.add_argument("--shift", type=positive, default=2, help="pixels to move an image by (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: look(args))


def look(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    # the digits enlarged to 32x32: both networks were made for images of about that size
    options = {"upscale": 4} if args.data in ("auto", "digits") else {}
    images = data.load(args.data, **options).limit(args.limit).scaled()
    model = models.by_name(args.model, len(images.classes)).build(images.input_shape, rng=args.seed)
    if args.shift >= images.input_shape[2]:
        raise ValueError(f"--shift must be less than the {images.input_shape[2]} pixels of an image, got {args.shift}")
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{images.name}: {args.model}, {len(images.x_train)} training images; backend {chosen.name}")
    before = model.state_dict()
    history = Trainer(model, optimizer="adam", seed=args.seed).fit(images.train, images.test, epochs=args.epochs)

    convolution, pooling = FIRST[args.model]
    image = images.x_test[0].astype(backend.dtype_name(chosen.dtype))
    figures = {
        "filters": viz.plot_filters(model, before=before),
        "feature_maps": viz.plot_feature_maps(model, image),
        "receptive_fields": viz.plot_receptive_fields(model, image),
        "activation_maximization": viz.plot_activation_maximization(
            model, "output", range(len(images.classes)), steps=args.steps, decay=0.1, bounds=(0.0, 1.0)
        ),
        "saliency": viz.plot_saliency(model, image, classes=images.classes),
        "grad_cam": viz.plot_grad_cam(model, image, None, convolution, classes=images.classes),
        "misclassified": viz.plot_misclassified(*images.test, predict(model, images.x_test), images.classes),
        "model": viz.plot_model(model),
        "translation": plot_translation(model, image, args.shift, (convolution, pooling)),
    }
    for name, figure in figures.items():
        save_figure(figure, args.out / f"{name}.png")
    fields = {field.path: {"size": field.size, "jump": field.jump} for field in viz.receptive_fields(model)}
    save_results(
        args.out / "results.json",
        origin(chosen),
        data=images.name,
        test_accuracy=history["validation_accuracy"][-1],
        receptive_fields=fields,
        translation=translation(model, image, args.shift, convolution),
    )
    return 0


def shifted(image: np.ndarray, shift: int) -> np.ndarray:
    """Move an image to the right; what comes in from the left is 0."""
    moved = np.zeros_like(image)
    moved[..., shift:] = image[..., :-shift]
    return moved


def translation(model: Layer, image: np.ndarray, shift: int, convolution: str) -> dict[str, Any]:
    """Measure that a convolution moves with its input, and that pooling hides a move inside of its window."""
    maps = viz.feature_maps(model, np.stack([image, shifted(image, shift)]), [convolution])[convolution]
    first, second = to_numpy(maps)
    point = np.zeros((3, 1, 4, 4), dtype=image.dtype)
    for row, column in enumerate((0, 1, 2)):  # the second is still in the first's window, the third is not
        point[row, 0, 0, column] = 1.0
    pooled = to_numpy(Pool2D(2).predict(backend.asarray(point)))
    return {
        "shift": shift,
        # but for the left edge, where the moved image is 0 and the map of the first has nothing to compare with
        "largest_difference_to_moved_map": float(abs(second[..., shift:] - first[..., :-shift]).max()),
        "largest_value_of_map": float(abs(first).max()),
        "pooling_hides_move_inside_window": bool((pooled[0] == pooled[1]).all()),
        "pooling_hides_move_out_of_window": bool((pooled[0] == pooled[2]).all()),
    }


def plot_translation(model: Layer, image: np.ndarray, shift: int, layers: tuple[str, str]) -> Any:
    """Draw the image and its strongest map after convolution and pooling, above the same for the image moved."""
    pair = np.stack([image, shifted(image, shift)])
    maps = {path: to_numpy(y) for path, y in viz.feature_maps(model, pair, layers).items()}
    strongest = int(maps[layers[0]][0].var(axis=(1, 2)).argmax())
    columns = {"image": pair.mean(axis=1)} | {path: y[:, strongest] for path, y in maps.items()}
    figure = new_figure(3.0 * len(columns), 6.0)
    for row, name in enumerate(("", f" moved by {shift}")):
        for column, (path, pictures) in enumerate(columns.items()):
            ax = figure.add_subplot(2, len(columns), row * len(columns) + column + 1)
            ax.imshow(pictures[row], cmap="gray", vmin=pictures.min(), vmax=pictures.max())
            ax.set_title(f"{path}{name}")
            ax.set_xticks([])
            ax.set_yticks([])
    return figure


if __name__ == "__main__":
    sys.exit(main())
