#!/usr/bin/env python3
"""Compare optimizers: their paths on two surfaces, and the losses of one dense network trained by each."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from _common import add_basic_arguments, add_data_argument, guarded, origin, positive, save_figure, save_results
from _dense import dense_network, plot_losses, train_losses

from xpnet import backend, data, optim
from xpnet.training import evaluate
from xpnet.viz import BOWL, SADDLE, optimizer_path, plot_optimizer_paths

RATES = {  # of the book, section 6.1, where it has them; for the rest the defaults of xpnet
    "sgd": 0.01,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 0.01,
    "adadelta": 1.0,
    "rmsprop": 0.001,
    "adam": 0.001,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/compare_optimizers")
    add_data_argument(parser)
    parser.add_argument("--steps", type=positive, default=500, help="updates of the network (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=128, help="images in a step (%(default)s)")
    parser.add_argument("--path-steps", type=positive, default=30, help="updates on the surfaces (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: compare(args))


def compare(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    images = data.load(args.data).scaled()
    args.out.mkdir(parents=True, exist_ok=True)
    save_figure(plot_optimizer_paths(steps=args.path_steps), args.out / "paths.png")
    paths = {
        surface.name: {
            name: optimizer_path(optim.by_name(name, lr=lr), surface.f, surface.start, steps=args.path_steps).tolist()
            for name, lr in surface.rates.items()
        }
        for surface in (BOWL, SADDLE)
    }
    results: dict[str, Any] = {}
    print(f"{images.name}: five dense layers, {args.steps} steps of {args.batch_size} images; backend {chosen.name}")
    for name, lr in RATES.items():
        model = dense_network(len(images.classes), hidden=4).build(images.input_shape, rng=args.seed)
        losses = train_losses(
            model, optim.by_name(name, lr=lr), images, steps=args.steps, batch_size=args.batch_size, seed=args.seed
        )
        test = evaluate(model, images.test)
        results[name] = {"lr": lr, "losses": losses, "test_accuracy": test.accuracy}
        print(f"{name:9} lr {lr:<6g} last loss {losses[-1]:.4f}  test accuracy {test.accuracy:.4f}")
    save_figure(plot_losses({name: r["losses"] for name, r in results.items()}), args.out / "losses.png")
    save_results(args.out / "results.json", origin(chosen), data=images.name, optimizers=results, paths=paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
