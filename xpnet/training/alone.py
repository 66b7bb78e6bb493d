"""What a trainer does by itself, and what several ranks do together instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.backend import Array
from xpnet.data import Loader
from xpnet.training.evaluation import Evaluation, evaluate
from xpnet.training.position import Position

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["Alone"]


class Alone:
    """One process: the whole of every batch, and nobody to agree with.

    `xpnet.distributed.DataParallel` has the same methods for several.

    Attributes
    ----------
    is_root : bool
        Whether this process prints, logs and saves.
    """

    is_root = True

    def begin(self, trainer: Trainer, loader: Loader, held_out: Any) -> None:
        """Make ready for a call of `fit`."""

    def learn(self, trainer: Trainer, x: Array, t: Array, position: Position) -> None:
        """Set the gradients of the model by a batch, and count its loss and accuracy."""
        value, y = trainer.forward_backward(
            trainer.model,
            trainer.loss,
            x,
            t,
            micro_batch=trainer.micro_batch,
            scale=trainer.scale,
            enter=trainer.enter,
        )
        position.means.add(value, y, t)

    def agree(self, interrupted: bool, stop: str | None) -> tuple[bool, str | None]:
        """Return whether the run is to end, by Ctrl-C or for the reason that a callback gave."""
        return interrupted, stop

    def evaluate(self, trainer: Trainer, data: Any, *, metrics: Any, batch_size: int) -> Evaluation:
        """Measure the model; see `xpnet.training.evaluate`."""
        return evaluate(trainer.model, data, loss=trainer.loss, metrics=metrics, batch_size=batch_size)

    def end_epoch(self, trainer: Trainer) -> None:
        """Look after an epoch whether all is well."""

    def end(self, loader: Loader) -> None:
        """Leave the loader as it was given to `fit`."""
