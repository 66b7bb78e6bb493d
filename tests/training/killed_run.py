"""A run that is killed again and again, as a program of its own: run by test_killed.py.

One process is forked for each life of the run, so that fifty of them take seconds. Each resumes from the newest
checkpoint, tells of its updates, and is killed at a random moment after a random number of them, which it comes to
on a slow machine too; whenever one has been, the newest checkpoint must hold the weights that a run without breaks
had after as many updates.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from xpnet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from xpnet.schedules import Cosine
from xpnet.training import Callback, Checkpoint, Trainer, load_checkpoint

EPOCHS = 30


def digest(trainer: Trainer) -> str:
    arrays = trainer.model.state_dict() | trainer.optimizer.state_dict()
    found = hashlib.sha256(json.dumps(trainer.model.random_state()).encode())
    for name in sorted(n for n, a in arrays.items() if hasattr(a, "shape")):
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def make(*callbacks: Callback) -> Trainer:
    model = Sequential(Dense(16), BatchNorm(), ReLU(), Dropout(0.2), Dense(3))
    schedule = Cosine(0.01, period=2000, every="update")
    return Trainer(model, batch_size=8, seed=1, schedule=schedule, callbacks=callbacks)


def fit(trainer: Trainer) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((200, 6)).astype(np.float32), rng.integers(0, 3, 200)
    trainer.fit((x, t), (x[:50], t[:50]), until=EPOCHS, verbose=False)


class Digests(Callback):
    """The weights after each update of the run that nobody kills."""

    def __init__(self) -> None:
        self.by_step: dict[int, str] = {}

    def on_update(self, trainer: Trainer) -> None:
        self.by_step[trainer.optimizer.step] = digest(trainer)


class Told(Callback):
    """Writes a byte after each update."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def on_update(self, trainer: Trainer) -> None:
        os.write(self.pipe, b".")


def live(folder: Path, *callbacks: Callback) -> None:
    trainer = make(Checkpoint(folder, every_updates=1), *callbacks)
    if (folder / "last.safetensors").exists():
        load_checkpoint(folder / "last.safetensors", trainer)
    fit(trainer)


def main(folder: Path, kills: int) -> None:
    expected = Digests()
    whole = make(expected)
    fit(whole)
    rng = random.Random(kills)
    steps: list[int] = []
    done = 0
    while len(steps) < kills:
        ours, its = os.pipe()
        child = os.fork()
        if child == 0:
            live(folder, Told(its))
            os._exit(0)
        os.close(its)
        with open(ours, "rb") as told:
            told.read(rng.randrange(15))
            time.sleep(rng.uniform(0.0, 0.01))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):  # the run had ended before
            done += 1
            if done > kills:
                raise SystemExit("the run ends too early to be killed")
            for path in folder.iterdir():
                path.unlink()
            continue
        newest = folder / "last.safetensors"
        if not newest.exists():  # killed before the first update
            steps.append(0)
            continue
        resumed = load_checkpoint(newest, make())
        step = resumed.optimizer.step
        assert digest(resumed) == expected.by_step[step], f"other weights after update {step}"
        steps.append(step)
    live(folder)
    last = load_checkpoint(folder / "last.safetensors", make())
    assert digest(last) == digest(whole)
    assert last.history["loss"] == whole.history["loss"]
    assert last.history["validation_loss"] == whole.history["validation_loss"]
    leftovers = [p.name for p in folder.iterdir() if p.name.endswith(".part")]
    print(json.dumps({"kills": len(steps), "different_steps": len(set(steps)), "leftovers": leftovers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
