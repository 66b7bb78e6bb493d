"""A run from its settings to its results on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpnet import backend, optim
from xpnet.backend import Backend
from xpnet.data import Dataset, Loader
from xpnet.distributed import Communicator, SingleCommunicator, synchronize_batch_norm
from xpnet.errors import NonFiniteError, ShapeError, WeightsError
from xpnet.io import load_weights
from xpnet.layers import Layer
from xpnet.run.data import held_out, load_dataset, make_loss, pixel_scale, resolved, training_loader
from xpnet.run.fitting import remedy
from xpnet.run.origin import origin
from xpnet.run.saved import build_model
from xpnet.run.settings import Settings
from xpnet.run.start import file_of, load_start, noted
from xpnet.schedules import Cosine, MultiStep, OneCycle, Plateau, Schedule, Step, Warmup
from xpnet.training import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    Evaluation,
    History,
    Trainer,
    load_checkpoint,
)
from xpnet.training.checkpoint import read_about
from xpnet.viz import plot_history, save_figure

__all__ = ["Outcome", "train"]

CHECKPOINT_SECONDS = 60.0  # what a crash in mid-epoch costs at most


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    folder : pathlib.Path
        With ``settings.toml``, ``last.safetensors`` (and ``best.safetensors``), ``log.csv``, ``history.json``
        and ``curves.png``.
    history : History
    test : Evaluation
        Of the last weights on the test images.
    best : Evaluation or None
        Of the best epoch's weights on the test images, if images were held out to choose it.
    """

    folder: Path
    history: History
    test: Evaluation
    best: Evaluation | None


def train(
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    callbacks: Sequence[Callback] = (),
    verbose: bool = True,
    communicator: Communicator | None = None,
) -> Outcome:
    """Train as the settings say and leave everything in a folder.

    Parameters
    ----------
    settings : Settings
    folder : path
        Made if need be.
    resume : bool, default False
        Go on from ``last.safetensors`` in the folder, to the end that the settings say.
    command : str, optional
        To be noted in ``history.json``; a run that goes on keeps the one it was begun with.
    callbacks : sequence of Callback, optional
        Beside those that the settings ask for.
    verbose : bool, default True
        Print the summary of the model, a line for each epoch and the results.
    communicator : Communicator, optional
        Of the ranks that train together, of `xpnet.distributed.connect`, which has selected the backend too. All call
        this function; rank 0 alone prints, reads the checkpoint and writes files.

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError, OperationError, DataError, WeightsError, MissingDependencyError, OSError
        As the parts of the run do; checkpoints written so far stay.
    """
    comm = SingleCommunicator() if communicator is None else communicator
    chosen = backend.use(settings.backend, dtype=settings.dtype) if communicator is None else backend.get()
    verbose = verbose and comm.is_root
    wanted = settings.data
    settings = comm.from_root(functools.partial(_noted, settings, resume))
    dataset = _one_after_the_other(comm, settings)
    _check_top(settings, len(dataset.classes))
    loader = training_loader(settings, dataset)
    scale = pixel_scale(settings.pixels, dataset.max_value)
    tests = held_out(*dataset.test, scale, on_device=settings.on_device)
    # without images held out, the test images are looked at after each epoch and nothing is chosen by them
    watched = tests
    if dataset.validation is not None:
        watched = held_out(*dataset.validation, scale, on_device=settings.on_device)
    about = _about(settings, dataset, scale, command)
    best = "validation_loss" if settings.validation else None
    checkpoint = Checkpoint(folder, every_seconds=CHECKPOINT_SECONDS, best=best, about=about)
    stand_in = dataset.name == "digits" and settings.data != wanted
    model = _model(settings, dataset, stand_in=stand_in, outside=folder if resume else None)
    if settings.batch_norm == "all":
        synchronize_batch_norm(model, comm)
    trainer = _trainer(
        settings, dataset, model, len(loader), [checkpoint, CSVLog(folder / "log.csv"), *callbacks], comm
    )
    if comm.is_root:  # the others are given its state and write nothing
        if resume:
            about["command"] = _go_on(checkpoint.last, trainer, settings.epochs) or command
        elif settings.weights is not None:
            load_start(model, settings.weights)
        folder.mkdir(parents=True, exist_ok=True)
        settings.save(folder / "settings.toml")
    if verbose:
        print(_opening(dataset, chosen, comm))
        print(model.summary())
        if begun := _begun(settings, trainer, resume):
            print(begun)
    with _placed(trainer, folder):
        history = trainer.fit(loader, watched, until=settings.epochs, verbose=verbose)
    record = about | _described(model, about["command"], chosen, comm)
    return _finish(trainer, folder, history, tests, checkpoint, record, verbose, comm)


def _check_top(settings: Settings, classes: int) -> None:
    """Refuse ``--top`` of as many as there are, once the data say how many that is."""
    if settings.top is not None and settings.top >= classes:
        raise ValueError(
            f"settings: top must be below the number of classes, {classes}, got {settings.top}: "
            "the class is always among so many"
        )


def _about(settings: Settings, dataset: Dataset, scale: tuple[float, float], command: str) -> dict[str, Any]:
    """Return what a checkpoint notes: all that is needed to use its model without the data."""
    return {
        "command": command,
        "settings": settings.to_dict(),
        "data": dataset.name,
        "classes": list(dataset.classes),
        "input_shape": list(dataset.input_shape),
        "scale": list(scale),
        "max_value": dataset.max_value,
    }


def _described(model: Layer, command: str, chosen: Backend, comm: Communicator) -> dict[str, Any]:
    """Return what ``history.json`` notes of where the numbers come from."""
    described = origin(command, chosen)
    described |= {"model": type(model).__name__, "parameters": sum(p.size for p in model.parameters())}
    return described | ({"ranks": comm.size} if comm.size > 1 else {})


def _begun(settings: Settings, trainer: Trainer, resume: bool) -> str:
    """Return in words what a run goes on from, or nothing if its weights are drawn."""
    if resume:
        return f"resumed after {len(trainer.history)} epochs and {trainer.position.batch} batches"
    return "" if settings.weights is None else f"weights of {file_of(settings.weights)}"


@contextlib.contextmanager
def _placed(trainer: Trainer, folder: Path) -> Iterator[None]:
    """Say of a loss that is not finite in which epoch it was, at what rate, and where those before it are."""
    try:
        yield
    except NonFiniteError as error:
        done = len(trainer.history)
        kept = f"; the {done} before it are in {folder}" if done else ""
        error.add_note(f"in epoch {done + 1}, at a learning rate of {trainer.optimizer.lr:g}{kept}")
        raise


def _noted(settings: Settings, resume: bool) -> Settings:
    """Return the settings with what they stand for now, which may be something else when the run is opened."""
    weights = settings.weights
    if weights is not None and not resume:  # a run that goes on needs those that it began with no more
        weights = noted(weights)
    return dataclasses.replace(settings, data=resolved(settings.data), weights=weights)


def _one_after_the_other(comm: Communicator, settings: Settings) -> Dataset:
    """Load the data on one rank of each machine first: it may have to download or unpack them."""
    found = load_dataset(settings) if comm.local_rank == 0 else None
    comm.barrier()
    return load_dataset(settings) if found is None else found


def _model(settings: Settings, dataset: Dataset, *, stand_in: bool, outside: Path | None) -> Layer:
    """Build the model; if it does not fit the images, say what does."""
    try:
        return build_model(settings, len(dataset.classes), dataset.input_shape, outside=outside)
    except ShapeError as error:
        if helps := remedy(settings.model, dataset, stand_in=stand_in):
            error.add_note(helps)
        raise


def _trainer(
    settings: Settings,
    dataset: Dataset,
    model: Layer,
    batches: int,
    callbacks: list[Callback],
    comm: Communicator,
) -> Trainer:
    options: dict[str, Any] = {"lr": settings.lr}
    if settings.weight_decay:
        options["weight_decay"] = settings.weight_decay
    if settings.clip_norm is not None:
        options["clip_norm"] = settings.clip_norm
    if settings.early_stopping is not None:
        callbacks = [EarlyStopping(patience=settings.early_stopping), *callbacks]
    return Trainer(
        model,
        loss=make_loss(settings, dataset),
        optimizer=optim.by_name(settings.optimizer, **options),
        schedule=_schedule(settings, batches),
        micro_batch=settings.micro_batch,
        metrics=() if settings.top is None else (f"top{settings.top}",),
        callbacks=callbacks,
        seed=settings.seed,
        communicator=comm if comm.size > 1 else None,
        cuda_graph=settings.cuda_graph == "always",
    )


def _go_on(path: Path, trainer: Trainer, epochs: int) -> str:
    """Put the trainer where the run has got to; return the command that began it, if it is known."""
    load_checkpoint(path, trainer)
    done = len(trainer.history)
    if epochs < done:
        raise ValueError(
            f"train: the run in {path.parent} has {done} epochs already; give --epochs more than that, got {epochs}"
        )
    return str(read_about(path)["about"].get("command", ""))


def _schedule(settings: Settings, batches: int) -> Schedule | None:
    """Return the schedule over all updates of the run; "step" divides by ten at a half and at three quarters."""
    lr, updates = settings.lr, (settings.epochs - settings.warmup) * batches
    schedules: dict[str, Any] = {
        "constant": lambda: Step(lr, period=updates, every="update"),
        "cosine": lambda: Cosine(lr, period=updates, every="update"),
        "one_cycle": lambda: OneCycle(lr, length=updates, every="update"),
        "step": lambda: MultiStep(lr, milestones=[updates // 2, updates * 3 // 4], every="update"),
        "plateau": lambda: Plateau(lr, patience=3),
    }
    if settings.schedule == "constant" and not settings.warmup:
        return None
    schedule = schedules[settings.schedule]()
    if not settings.warmup:
        return schedule
    return Warmup(schedule, length=settings.warmup * (batches if schedule.every == "update" else 1))


def _opening(dataset: Dataset, chosen: Backend, comm: Communicator) -> str:
    kept = "" if dataset.validation is None else f", {len(dataset.validation.t):,} validation"
    counts = f"{len(dataset.train.t):,} training{kept} and {len(dataset.test.t):,} test images"
    ranks = f"; {comm.size} ranks through {comm.name}" if comm.size > 1 else ""
    return f"{dataset.name}: {counts}; backend {chosen.name}{ranks}"


def _finish(
    trainer: Trainer,
    folder: Path,
    history: History,
    tests: Loader,
    checkpoint: Checkpoint,
    about: dict[str, Any],
    verbose: bool,
    comm: Communicator,
) -> Outcome:
    """Measure on the test images, once, and write what is to be kept."""
    say = print if verbose else lambda *args: None
    if history.interrupted:
        say(f"interrupted after {len(history)} whole epochs; to go on: xpnet train --resume {shlex.quote(str(folder))}")
    elif history.stopped:
        say(f"stopped: {history.stopped}")
    test = trainer.evaluate(tests)
    say(f"test accuracy {test.accuracy:.4f}, loss {test.loss:.4f}")
    best = None
    if about["settings"]["validation"]:
        last = trainer.model.state_dict()
        if _take_best(trainer.model, checkpoint, comm, say):
            best = trainer.evaluate(tests)
            say(f"best epoch: test accuracy {best.accuracy:.4f}, loss {best.loss:.4f}")
        trainer.model.load_state_dict(last)
    about |= {"test_accuracy": test.accuracy, "test_loss": test.loss, "seconds": round(sum(history["seconds"]), 1)}
    if best is not None:
        about |= {"best_test_accuracy": best.accuracy, "best_test_loss": best.loss}
    if not comm.is_root:
        return Outcome(folder, history, test, best)
    history.save(folder / "history.json", about=about)
    if len(history):
        title = f"{about['model']} on {about['data']}"
        save_figure(plot_history(history, title=title), folder / "curves.png")
    say(f"results in {folder}: " + ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))))
    return Outcome(folder, history, test, best)


def _take_best(model: Layer, checkpoint: Checkpoint, comm: Communicator, say: Any) -> bool:
    """Give the model, on all ranks, the weights of the best epoch; whether there are any."""
    arrays = None
    if comm.is_root and checkpoint.best.exists():
        try:
            load_weights(model, checkpoint.best)
            arrays = {name: backend.to_numpy(a) for name, a in model.state_dict().items()}
        except WeightsError as error:
            say(f"the best epoch cannot be read: {error}")
    arrays = comm.broadcast_object(arrays)
    if arrays is not None:
        model.load_state_dict(arrays)
    return arrays is not None
