"""Run on several ranks by test_training.py: each function here is a case; what it returns, its rank reports.

The oracle is one process with the whole batch, which each rank is too, beside its part in the run of all.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import backend
from xpnet.data import Loader, augment
from xpnet.distributed import SingleCommunicator, connect, synchronize_batch_norm
from xpnet.errors import DistributedError
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Pool2D, ReLU, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import Adam, Momentum
from xpnet.training import Callback, Checkpoint, Trainer, load_checkpoint

# pytest looks for doctests in every file
COMM = connect("mpi", backend_name="numpy") if __name__ == "__main__" else SingleCommunicator()
N, RANK = COMM.size, COMM.rank
CLASSES = 3


def data(n=105, *, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2, 8, 8)).astype(dtype), rng.integers(0, CLASSES, n)


def network(norm=False, dropout=False):
    layers = [Conv2D(4, 3), *([BatchNorm()] * norm), ReLU(), Pool2D(2), Flatten(), *([Dropout(0.3)] * dropout)]
    return Sequential(*layers, Dense(5), *([BatchNorm(momentum=None)] * norm), Dense(CLASSES))


def trainer(comm, *, dtype="float32", sync=False, norm=False, dropout=False, batch_size=34, seed=3, **options):
    with backend.using(options.pop("backend", "numpy"), dtype=dtype):
        model = network(norm or sync, dropout).build((2, 8, 8), rng=seed)
    if sync and comm is not None:
        assert synchronize_batch_norm(model, comm) == 2
    options["optimizer"] = copy.deepcopy(options.get("optimizer", Momentum(lr=0.01)))
    return Trainer(model, batch_size=batch_size, seed=seed, communicator=comm, **options)


def weights(of):
    state = of.model.state_dict() | {n: a for n, a in of.optimizer.state_dict().items() if hasattr(a, "shape")}
    return {name: np.array(backend.to_numpy(a), dtype=np.float64) for name, a in state.items()}


def differences(ours, alone):
    """The largest difference to one process, and whether all ranks are the same to the bit."""
    a, b = weights(ours), weights(alone)
    assert a.keys() == b.keys()
    everyone = COMM.gather_objects({name: value.tobytes() for name, value in a.items()})
    assert all(other == everyone[0] for other in everyone), "ranks have come apart"
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def compare(x, t, *, epochs=None, alone=None, name="numpy", **options):
    """Train with all ranks and alone; return the differences in weights and in the history.

    Two ranks for 50 steps or so, more for a few: what uneven shares do wrong shows at once, and where there are fewer
    cores than ranks each step is long.
    """
    dtype, epochs = options.get("dtype", "float32"), epochs or (13 if N == 2 else 4)
    ours = trainer(COMM, **options)
    own = trainer(None, **(options | (alone or {})))
    with backend.using(name, dtype=dtype):
        for run in (ours, own):
            run.fit((x, t), (x[:50], t[:50]), epochs=epochs, verbose=False)
    assert ours.optimizer.step == own.optimizer.step
    histories = [(run.history["loss"], run.history["validation_loss"], run.history["accuracy"]) for run in (ours, own)]
    apart = float(np.abs(np.subtract(*histories)).max())
    return {"steps": ours.optimizer.step, "weights": differences(ours, own), "history": apart}


def plain_float64():
    return compare(*data(dtype="float64"), dtype="float64")


def plain_float32():
    return compare(*data())


def clipped_adam():
    return compare(*data(dtype="float64"), dtype="float64", optimizer=Adam(0.01, weight_decay=1e-3, clip_norm=0.5))


def sync_float64():
    return compare(*data(dtype="float64"), dtype="float64", sync=True)


def sync_float32():
    return compare(*data(), sync=True)


def accumulated():
    return compare(*data(dtype="float64"), dtype="float64", micro_batch=10)


def accumulated_sync():
    """Pieces of 10 and one of 4 go through the model together, on all ranks as on one."""
    return compare(*data(dtype="float64"), dtype="float64", micro_batch=10, sync=True)


def weighted():
    x, t = data(dtype="float64")
    t[::5] = -1
    t[x[:, 0, 0, 0] > 1.0] = -1
    loss = SoftmaxCrossEntropy(class_weights=[0.2, 1.0, 3.0], ignore_index=-1)
    return compare(x, t, dtype="float64", loss=loss)


def weighted_accumulated_sync():
    x, t = data(dtype="float64")
    t[::3] = -1
    loss = SoftmaxCrossEntropy(class_weights=[0.2, 1.0, 3.0], ignore_index=-1)
    return compare(x, t, dtype="float64", loss=loss, micro_batch=7, sync=True)


def unsynchronized():
    """Each rank normalises by its own share: what one process does in pieces of that size, but for the statistics."""
    size = 12 * N
    x, t = data(4 * size, dtype="float64")
    ours = trainer(COMM, dtype="float64", norm=True, batch_size=size)
    own = trainer(None, dtype="float64", norm=True, batch_size=size, micro_batch=12)
    with backend.using("numpy", dtype="float64"):
        for run in (ours, own):
            run.fit((x, t), epochs=13, verbose=False)
    a, b = ({p.name: p.data for p in run.model.parameters()} for run in (ours, own))
    buffers = COMM.gather_objects({name: v.tobytes() for name, v in weights(ours).items()})
    assert all(other == buffers[0] for other in buffers)
    return {"steps": ours.optimizer.step, "weights": max(float(np.abs(a[n] - b[n]).max()) for n in a), "history": 0.0}


def with_torch():
    if not next(s.usable for s in backend.available() if s.name == "torch"):
        return {}
    return compare(*data(dtype="float64"), dtype="float64", sync=True, backend="torch", name="torch", epochs=3)


def with_array_api_strict():
    name = "array_api_strict:device1"
    return compare(*data(40, dtype="float64"), dtype="float64", sync=True, backend=name, name=name, epochs=1)


def random_masks_and_changes():
    """Dropout and augmentation differ from rank to rank; the weights do not."""
    ours = trainer(COMM, dropout=True)
    x, t = data()
    seen = []

    def note(batch, labels, rng):
        seen.append(float(rng.random()))
        return augment.parse("shift:2", classes=CLASSES)(batch, labels, rng)

    loader = Loader(x, t, batch_size=34, augment=note)
    ours.fit(loader, epochs=2, verbose=False)
    assert loader.share is None
    differences(ours, ours)
    draws = COMM.gather_objects(tuple(seen))
    seeds = COMM.gather_objects(ours.model.random_state()["4.seed"])
    return {"draws": len(set(draws)), "seeds": len(set(seeds)), "epoch": loader.epoch}


def every_sample_once():
    """The shares of a batch are that batch, in every epoch."""
    from xpnet.data.share import Share

    x = np.arange(103, dtype=np.float32).reshape(103, 1)
    loader = Loader(x, np.arange(103), batch_size=34, seed=5)
    seen = []
    for _ in range(2):
        whole = [t.tolist() for _, t in loader]
        loader.epoch -= 1
        loader.share = Share(RANK, N)
        parts = []
        for number, (_, t) in enumerate(loader):
            n = len(whole[number])
            parts.append(t.tolist()[: loader.share.sizes(n)[0]])
        loader.share = None
        everyone = COMM.gather_objects(parts)
        for number, batch in enumerate(whole):
            assert [i for rank in everyone for i in rank[number]] == batch
        seen.append(sorted(i for batch in whole for i in batch) == list(range(103)))
    return {"epochs": seen}


def measured():
    """Evaluation of arrays and of a Loader, with metrics, also of fewer samples than ranks."""
    x, t = data()
    ours, own = trainer(COMM, metrics=("top2", "confusion_matrix", "accuracy")), trainer(None)
    found = []
    for n in (105, 1):
        part = x[:n], t[:n]
        for given in (part, Loader(*part, batch_size=20, shuffle=False), Loader(*part, batch_size=1, drop_last=True)):
            a = ours.evaluate(given)
            b = own.evaluate(part, metrics=("top2", "confusion_matrix", "accuracy"))
            assert a.metrics["confusion_matrix"].tolist() == b.metrics["confusion_matrix"].tolist()
            assert (a.metrics["top2"], a.metrics["accuracy"]) == (b.metrics["top2"], b.metrics["accuracy"])
            assert a.accuracy == b.accuracy
            found.append(abs(a.loss - b.loss))
    return {"weights": max(found)}


def resumed(folder):
    """A checkpoint of one process, in the middle of an epoch, goes on with all ranks to where one would have come."""

    class StopAt(Callback):
        def on_update(self, run):
            if run.optimizer.step == 6:
                run.stop("enough")

    x, t = data(dtype="float64")
    path = folder / "last.safetensors"
    with backend.using("numpy", dtype="float64"):
        if COMM.is_root:
            trainer(None, dtype="float64", sync=True, callbacks=[StopAt(), Checkpoint(folder, best=None)]).fit(
                (x, t), until=3, verbose=False
            )
        COMM.barrier()
        own = trainer(None, dtype="float64", sync=True)
        own.fit((x, t), until=3, verbose=False)
        ours = trainer(COMM, dtype="float64", sync=True, callbacks=[Checkpoint(folder / "again", best=None)])
        if COMM.is_root:  # the others get it from there
            load_checkpoint(path, ours)
        ours.fit((x, t), until=3, verbose=False)
        assert [e.loss for e in ours.history.epochs] == pytest.approx([e.loss for e in own.history.epochs], abs=1e-12)
        found = {"weights": differences(ours, own), "steps": ours.optimizer.step}
        # and what all ranks have saved is what one process can go on with
        again = load_checkpoint(folder / "again" / "last.safetensors", trainer(None, dtype="float64", sync=True))
        again.fit((x, t), until=4, verbose=False)
        own.fit((x, t), until=4, verbose=False)
        return found | {"alone again": differences(again, own)}


def refused():
    """Ranks that do not fit together: what each of them is told."""
    said = {}

    def attempt(name, x, t, **options):
        run = trainer(COMM, **options)
        before = weights(run)
        with pytest.raises((DistributedError, ValueError)) as caught:
            run.fit((x, t), verbose=False)
        assert all((before[k] == v).all() for k, v in weights(run).items())
        said[name] = str(caught.value)

    x, t = data()
    odd = RANK == 1
    attempt("size", *data(90 if odd else 105))
    attempt("data", *data(seed=odd))
    attempt("model", x, t, norm=odd)
    attempt("optimizer", x, t, optimizer=Adam(0.01) if odd else Momentum(0.01))
    attempt("batch size", x, t, batch_size=35 if odd else 34)
    attempt("too small", x[: N - 1], t[: N - 1])
    version = xpnet.__version__
    xpnet.__version__ = "9.9" if odd else version
    attempt("version", x, t)
    xpnet.__version__ = version

    class Meddle(Callback):
        def on_update(self, run):
            if odd:
                run.model.parameters()[0].data[...] *= 1.0000001

    with pytest.raises(DistributedError) as caught:
        trainer(COMM, callbacks=[Meddle()]).fit((x, t), verbose=False)
    said["apart"] = str(caught.value)
    return {"said": said}


def stopped(folder):
    """A callback, or Ctrl-C, on one rank ends all of them at the same step; files are written by one."""

    class At(Callback):
        def __init__(self, act):
            self.act = act

        def on_update(self, run):
            if RANK == N - 1 and run.optimizer.step == 7:
                self.act(run)

    class Writes(Callback):
        writes = True
        calls = 0

        def on_update(self, run):
            self.calls += 1

    x, t = data()
    found = []
    for act in (lambda run: run.stop("enough"), lambda run: os.kill(os.getpid(), signal.SIGINT)):
        writes = Writes()
        run = trainer(COMM, callbacks=[At(act), writes])
        run.fit((x, t), epochs=5, verbose=True)
        found.append([run.optimizer.step, run.history.stopped, run.history.interrupted, writes.calls])
        run.fit((x, t), until=3, verbose=False)  # it goes on with the rest of that epoch
        found.append([run.optimizer.step, len(run.history)])
    return {"found": found}


def main(folder: Path) -> None:
    for name in [name for name in sys.argv[2:]]:
        case = globals()[name]
        result = case(folder) if case.__code__.co_argcount else case()
        sys.stdout.write(json.dumps({"case": name, "rank": RANK} | result) + "\n")  # in one piece
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
