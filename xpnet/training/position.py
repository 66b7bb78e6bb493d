"""Where a run stands: how far in which epoch, with what measured so far."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from xpnet.data import Loader
from xpnet.losses import Loss
from xpnet.training.evaluation import Means

__all__ = ["Position"]


class Position:
    """Where a run stands between two steps.

    Parameters
    ----------
    loader : mapping, optional
        What tells the order of the batches: see `describe`. None: whatever the next loader is.
    epoch : int, optional
        Of the loader.
    batch : int, default 0
        Batches of the epoch that have been learnt from.
    seconds : float, default 0
        That they took.
    skipped : int, default 0
        How many of their steps changed no weight.

    Attributes
    ----------
    means : Means or mapping
        Of these batches.
    """

    def __init__(
        self,
        *,
        loader: Mapping[str, Any] | None = None,
        epoch: int | None = None,
        batch: int = 0,
        seconds: float = 0.0,
        skipped: int = 0,
        means: Mapping[str, float | int] | None = None,
    ) -> None:
        self.loader, self.epoch, self.batch, self.seconds, self.skipped = loader, epoch, batch, seconds, skipped
        self.means: Any = means

    def at(self, loader: Loader, loss: Loss) -> Position:
        """Return the position to go on from with a loader, and set the loader's epoch to it.

        With another loader than the one of this position an epoch that was broken off cannot be continued: a
        new one begins, with a warning.
        """
        order = describe(loader)
        goes_on = self.loader == order
        if self.batch and not goes_on:
            warnings.warn(
                f"the epoch that was broken off after {self.batch} batches of {self.loader} cannot be continued "
                f"with {order}; it begins anew",
                stacklevel=4,
            )
        if goes_on and self.epoch is not None:
            loader.epoch = self.epoch
        place = Position(loader=order, epoch=loader.epoch)
        place.means = Means(loss)
        if goes_on and self.batch:
            place.batch, place.seconds, place.skipped = self.batch, self.seconds, self.skipped
            place.means.load_state_dict(self.means if isinstance(self.means, Mapping) else self.means.state_dict())
        return place

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        means = self.means.state_dict() if isinstance(self.means, Means) else self.means
        return {
            "loader": None if self.loader is None else dict(self.loader),
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "means": means if self.batch else None,
        }

    @classmethod
    def from_dict(cls, content: Any) -> Position:
        """Make a position of what `state_dict` returned; a file may hold anything, so all of it is checked.

        Raises
        ------
        ValueError
            If something is missing or of the wrong type.
        """
        content = {"skipped": 0} | content if isinstance(content, dict) else content
        names = {"loader", "epoch", "batch", "seconds", "skipped", "means"}
        fits = isinstance(content, dict) and set(content) == names
        if fits:
            fits = (
                _is_mapping_of_numbers(content["loader"], optional=True)
                and (content["epoch"] is None or _is_count(content["epoch"]))
                and _is_count(content["batch"])
                and _is_count(content["skipped"])
                and isinstance(content["seconds"], float | int)
                and _is_mapping_of_numbers(content["means"], optional=not content["batch"])
            )
        if not fits:
            raise ValueError(f"the position in the epoch cannot be understood: {content!r:.200}")
        return cls(**content)


def describe(loader: Loader) -> dict[str, Any]:
    """Return what the order of a loader's batches depends on, beside its epoch."""
    return {
        "samples": loader.samples,
        "batch_size": loader.batch_size,
        "shuffle": loader.shuffle,
        "seed": loader.seed,
    }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _is_mapping_of_numbers(value: Any, *, optional: bool) -> bool:
    if value is None:
        return optional
    return isinstance(value, Mapping) and all(isinstance(n, float | int) for n in value.values())
