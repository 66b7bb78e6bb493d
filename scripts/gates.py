#!/usr/bin/env python3
"""Train AND, NAND and OR on one perceptron each, and XOR on two layers: the smallest networks there are."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from _common import add_basic_arguments, guarded, new_figure, origin, positive, save_figure, save_results

from xpnet import backend
from xpnet.backend import asarray, to_numpy
from xpnet.layers import Dense, Layer, Sequential
from xpnet.losses import BinaryCrossEntropy
from xpnet.optim import Adam
from xpnet.training import train_step

INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {"AND": [0, 0, 0, 1], "NAND": [1, 1, 1, 0], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_basic_arguments(parser, out="runs/gates")
    parser.add_argument("--steps", type=positive, default=500, help="updates of each network (%(default)s)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate of Adam (%(default)s)")
    parser.add_argument("--hidden", type=positive, default=4, help="units of XOR's first layer (%(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: learn(args))


def learn(args: argparse.Namespace) -> int:
    chosen = backend.use(args.backend, dtype=args.dtype)
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    figure = new_figure(3.0 * len(GATES), 3.0)
    for i, (gate, answers) in enumerate(GATES.items()):
        model = make_model(gate, args.hidden).build((2,), rng=args.seed)
        train(model, answers, Adam(lr=args.lr), args.steps)
        given = yes(model, INPUTS).tolist()
        results[gate] = {
            "table": [[*map(int, x), int(y)] for x, y in zip(INPUTS, given, strict=True)],
            "learnt": given == [bool(a) for a in answers],
            "weights": {name: to_numpy(p.data).tolist() for name, p in model.named_parameters()},
        }
        print(f"{gate:4} " + "  ".join(f"{a} {b} -> {y}" for a, b, y in results[gate]["table"]))
        draw(figure.add_subplot(1, len(GATES), i + 1), gate, model, answers)
    save_figure(figure, args.out / "gates.png")
    save_results(args.out / "results.json", origin(chosen), gates=results)
    missed = [gate for gate, result in results.items() if not result["learnt"]]
    if missed:
        remedy = "try more --steps, another --seed or more --hidden"
        print(f"error: {', '.join(missed)} not learnt; {remedy}", file=sys.stderr)
    return 1 if missed else 0


def make_model(gate: str, hidden: int) -> Layer:
    """A line is enough to part the answers of all gates but XOR."""
    if gate != "XOR":
        return Dense(1)
    return Sequential(Dense(hidden, activation="tanh"), Dense(1))


def train(model: Layer, answers: list[int], optimizer: Adam, steps: int) -> None:
    dtype = backend.get().dtype
    x, t = asarray(INPUTS, dtype=dtype), asarray(np.array(answers)[:, None], dtype=dtype)
    loss = BinaryCrossEntropy()
    for _ in range(steps):
        train_step(model, loss, optimizer, x, t)


def yes(model: Layer, x: np.ndarray) -> np.ndarray:
    """Return for each row whether the model says yes: a score above 0 is a probability above a half."""
    return to_numpy(model.predict(asarray(x, dtype=backend.get().dtype)))[:, 0] > 0.0


def draw(ax: Any, gate: str, model: Layer, answers: list[int]) -> None:
    """Draw where the model says yes, and the four inputs with the answers they should have."""
    ticks = np.linspace(-0.5, 1.5, 101)
    a, b = np.meshgrid(ticks, ticks)
    region = yes(model, np.stack([a.ravel(), b.ravel()], axis=1)).reshape(a.shape)
    ax.imshow(region, origin="lower", extent=(-0.5, 1.5, -0.5, 1.5), cmap="Blues", vmin=0, vmax=2)
    for (x0, x1), answer in zip(INPUTS, answers, strict=True):
        ax.plot(x0, x1, "^" if answer else "o", color="C3" if answer else "black")
    ax.set_title(gate)
    ax.set_xticks([0, 1])
    ax.set_yticks([0, 1])


if __name__ == "__main__":
    sys.exit(main())
