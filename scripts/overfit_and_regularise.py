#!/usr/bin/env python3
"""Overfit a large dense network on a few hundred images, then regularise it in four ways."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from xpnet.layers import BatchNorm, Dropout, Layer, ReLU
from xpnet.optim import SGD
from xpnet.training import Trainer


class Way(NamedTuple):
    """A way to regularise: settings of the optimizer, and what follows each hidden layer."""

    settings: dict[str, Any]
    after: Callable[[], Sequence[Layer]] = tuple


def ways(args: argparse.Namespace) -> dict[str, Way]:
    return {
        "nothing": Way({}),
        "weight decay": Way({"weight_decay": args.weight_decay}),
        "dropout": Way({}, lambda: (ReLU(), Dropout(args.dropout))),
        "batch norm": Way({}, lambda: (BatchNorm(), ReLU())),
        "max norm": Way({"max_norm": args.max_norm}),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/overfit")
    add_data_argument(parser)
    parser.add_argument("--train-images", type=positive, default=300, help="(%(default)s)")
    parser.add_argument("--test-images", type=positive, default=1000, help="at most (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=100, help="(%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=100, help="images in a step (%(default)s)")
    parser.add_argument("--hidden", type=positive, default=6, help="hidden layers (%(default)s)")
    parser.add_argument("--units", type=positive, default=100, help="in each hidden layer (%(default)s)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate of SGD (%(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.02, help="(%(default)s)")
    parser.add_argument("--dropout", type=float, default=0.2, help="rate (%(default)s)")
    parser.add_argument("--max-norm", type=float, default=1.5, help="of the weights of a unit (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: compare(args))


def compare(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    todo = {
        name: (SGD(lr=args.lr, **way.settings), make_model(args, way)) for name, way in ways(args).items()
    }  # settings that cannot be used are refused before anything is trained
    images = data.load(args.data).limit(args.train_images, args.test_images).scaled()
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{images.name}: {len(images.x_train)} training and {len(images.x_test)} test images; backend {chosen.name}")
    results = {}
    for name, (optimizer, make) in todo.items():
        model = make(len(images.classes)).build(images.input_shape, rng=args.seed)
        trainer = Trainer(model, optimizer=optimizer, batch_size=args.batch_size, seed=args.seed)
        results[name] = accuracies(trainer, images, args.epochs)
        train, test = results[name]["train"][-1], results[name]["test"][-1]
        print(f"{name:13} training accuracy {train:.4f}  test accuracy {test:.4f}  difference {train - test:.4f}")
    save_figure(plot_accuracies(results), args.out / "accuracies.png")
    save_results(args.out / "results.json", origin(chosen), data=repr(images), accuracies=results)
    return 0


def make_model(args: argparse.Namespace, way: Way) -> Callable[[int], Layer]:
    way.after()
    return lambda classes: dense_network(classes, hidden=args.hidden, units=args.units, after=way.after)


def accuracies(trainer: Trainer, images: Dataset, epochs: int) -> dict[str, list[Any]]:
    """Train, and measure after each epoch on both halves, in inference mode."""
    found: dict[str, list[Any]] = {"train": [], "test": []}
    for _ in range(epochs):
        trainer.fit(images.train, epochs=1, verbose=False)
        found["train"].append(trainer.evaluate(images.train).accuracy)
        found["test"].append(trainer.evaluate(images.test).accuracy)
    return found


def plot_accuracies(results: dict[str, dict[str, list[Any]]]) -> Any:
    figure = new_figure(3.0 * len(results), 3.0)
    for i, (name, halves) in enumerate(results.items()):
        ax = figure.add_subplot(1, len(results), i + 1)
        for half, values in halves.items():
            ax.plot(range(1, len(values) + 1), values, label=half)
        ax.set_title(name)
        ax.set_ylim(0.0, 1.02)
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="lower right")
    return figure


if __name__ == "__main__":
    sys.exit(main())
