#!/usr/bin/env python3
"""Search the learning rate and weight decay of a dense network at random, as in the book's chapter 6."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

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
from _dense import dense_network

from xpnet import backend, data
from xpnet.data import Dataset
from xpnet.optim import SGD
from xpnet.training import History, Trainer
from xpnet.training.search import LogUniform, Search, Trial, random_search


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/search")
    add_data_argument(parser)
    parser.add_argument("--trials", type=positive, default=30, help="sets of values to try (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=20, help="of each trial (%(default)s)")
    parser.add_argument("--images", type=positive, default=500, help="to train and validate with (%(default)s)")
    parser.add_argument("--validation", type=float, default=0.2, help="fraction of them to validate (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=50, help="images in a step (%(default)s)")
    parser.add_argument("--lr", type=float, nargs=2, default=(1e-3, 1.0), metavar=("LOW", "HIGH"), help="%(default)s")
    parser.add_argument(
        "--weight-decay", type=float, nargs=2, default=(1e-8, 1e-2), metavar=("LOW", "HIGH"), help="%(default)s"
    )
    parser.add_argument("--top", type=positive, default=10, help="lines of the table (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: search(args))


def search(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    space = {"lr": LogUniform(*args.lr), "weight_decay": LogUniform(*args.weight_decay)}
    images = data.load(args.data).limit(args.images).scaled().split(args.validation, seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    assert images.validation is not None
    counts = f"{len(images.train.t)} training and {len(images.validation.t)} validation images"
    print(f"{images.name}: {counts}, {args.trials} trials of {args.epochs} epochs; backend {chosen.name}")
    histories: list[History] = []

    def measure(settings: dict[str, Any]) -> float:
        histories.append(fit(args, images, settings))
        return histories[-1]["validation_accuracy"][-1]

    def report(trial: Trial) -> None:
        values = ", ".join(f"{name} {value:.3g}" for name, value in trial.settings.items())
        print(
            f"trial {trial.number:3d}: {trial.error or f'validation accuracy {trial.score:.4f}'}, {values}", flush=True
        )

    found = random_search(measure, space, trials=args.trials, seed=args.seed, report=report)
    print(found.table(args.top))
    good = [t for t in found.ranked if not math.isnan(t.score)]
    trials = [{"score": t.score, "error": t.error, **t.settings} for t in good]
    save_results(args.out / "results.json", origin(chosen), data=repr(images), trials=trials)
    if not good:
        raise ValueError("no trial came to a validation accuracy: nothing to draw; try lower values of --lr")
    save_figure(plot(found, histories, args.top), args.out / "search.png")
    return 0


def fit(args: argparse.Namespace, images: Dataset, settings: dict[str, Any]) -> History:
    model = dense_network(len(images.classes), hidden=6).build(images.input_shape, rng=args.seed)
    trainer = Trainer(model, optimizer=SGD(**settings), batch_size=args.batch_size, seed=args.seed)
    return trainer.fit(images.train, images.validation, epochs=args.epochs, verbose=False)


def plot(found: Search, histories: list[History], top: int) -> Any:
    """Draw where the trials lay and how well they did, and the curves of the best."""
    figure = new_figure(9.6, 4.0)
    where, curves = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    good = [t for t in found.ranked if not math.isnan(t.score)]
    points = where.scatter(
        [t.settings["lr"] for t in good], [t.settings["weight_decay"] for t in good], c=[t.score for t in good]
    )
    where.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="weight decay")
    figure.colorbar(points, ax=where, label="validation accuracy")
    finished = dict(zip((t.number for t in found.trials if t.error is None), histories, strict=False))
    for trial in good[: min(top, 5)]:
        accuracies = finished[trial.number]["validation_accuracy"]
        label = f"lr {trial.settings['lr']:.2g}, decay {trial.settings['weight_decay']:.1g}"
        curves.plot(range(1, len(accuracies) + 1), accuracies, label=label)
    curves.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    curves.grid(alpha=0.3)
    curves.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(main())
