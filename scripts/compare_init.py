#!/usr/bin/env python3
"""Compare initial weights: how they spread the activations of a deep network, and how fast it then learns."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from _common import add_basic_arguments, add_data_argument, guarded, origin, positive, save_figure, save_results
from _dense import dense_network, plot_losses, train_losses

from xpnet import backend, data
from xpnet.backend import to_numpy
from xpnet.init import he_normal, normal, xavier_normal
from xpnet.optim import SGD
from xpnet.training import evaluate
from xpnet.viz import INITIAL_VALUES, initial_activations, plot_initial_activations

ACTIVATIONS = ("sigmoid", "tanh", "relu")
TRAINED = {"normal, std 0.01": normal(0.01), "Xavier": xavier_normal(), "He": he_normal()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/compare_init")
    add_data_argument(parser)
    parser.add_argument("--steps", type=positive, default=1000, help="updates of each network (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=128, help="images in a step (%(default)s)")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate of SGD (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: compare(args))


def compare(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    images = data.load(args.data).scaled()
    args.out.mkdir(parents=True, exist_ok=True)
    spread = {
        activation: {
            name: [float(to_numpy(y).std()) for y in initial_activations(init, activation, seed=args.seed).values()]
            for name, init in INITIAL_VALUES.items()
        }
        for activation in ACTIVATIONS
    }
    results: dict[str, Any] = {}
    print(f"{images.name}: five dense layers with relu, {args.steps} steps of SGD; backend {chosen.name}")
    for name, init in TRAINED.items():
        model = dense_network(len(images.classes), hidden=4, init=init).build(images.input_shape, rng=args.seed)
        losses = train_losses(
            model, SGD(lr=args.lr), images, steps=args.steps, batch_size=args.batch_size, seed=args.seed
        )
        test = evaluate(model, images.test)
        results[name] = {"losses": losses, "test_accuracy": test.accuracy}
        print(f"{name:16} last loss {losses[-1]:.4f}  test accuracy {test.accuracy:.4f}")
    save_figure(plot_initial_activations(seed=args.seed), args.out / "activations.png")
    save_figure(plot_losses({name: r["losses"] for name, r in results.items()}), args.out / "losses.png")
    save_results(
        args.out / "results.json", origin(chosen), data=images.name, initial_values=results, standard_deviations=spread
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
