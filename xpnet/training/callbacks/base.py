"""What a callback is, and how one compares the epochs of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from xpnet.training.history import Epoch, value_of

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["Best", "Callback"]


class Callback:
    """Base of the callbacks; a subclass gives the methods it needs.

    They are called in the order in which `Trainer` was given them, except that `Checkpoint` comes after all
    others, so that it saves what they have done; `on_fit_end` goes the other way round. A callback ends the run,
    after the step or epoch under way, by ``trainer.stop(reason)``.

    Examples
    --------
    Averaged weights, with a state that checkpoints keep:

    >>> from xpnet.optim import EMA
    >>> from xpnet.training import Callback
    >>> class Average(Callback):
    ...     def on_fit_begin(self, trainer):
    ...         self.ema = getattr(self, "ema", None) or EMA(trainer.model, decay=0.99)
    ...     def on_update(self, trainer):
    ...         self.ema.update()

    Attributes
    ----------
    writes : bool, default False
        Whether it leaves files or prints. Of a run on several processes only the first calls such a one.
    """

    writes: ClassVar[bool] = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step of a call of `fit`; the model is built."""

    def on_phase(self, trainer: Trainer, phase: str) -> None:
        """At the beginning of each phase: data, forward, loss, backward, update, validation or callbacks.

        With several processes there is "exchange" too, between backward and update. A step launched as a CUDA graph
        has "graph" in place of forward, loss and backward.
        """

    def on_update(self, trainer: Trainer) -> None:
        """After each update of the weights."""

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """After each whole epoch and its validation; it is the last of ``trainer.history``."""

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """When `fit` ends: done, stopped, interrupted (`error` is None), or with an exception."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: plain values (as JSON has them) and arrays."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; ValueError if it is something else."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but the checkpoint has {sorted(state)} for it")


class Best:
    """Watches one quantity of the epochs and tells when it is the best so far.

    Parameters
    ----------
    watch : str
        Quantity of an epoch, such as "validation_loss", or a metric by its name. Less is better if the name
        ends in "loss", more is otherwise.
    """

    def __init__(self, owner: str, watch: str) -> None:
        self.owner, self.watch = owner, watch
        self.value: float | None = None

    def improved(self, epoch: Epoch, by: float = 0.0) -> bool:
        """Take note of an epoch; whether it is better than the best by more than `by`."""
        try:
            value = value_of(epoch, self.watch)
        except KeyError as error:
            raise ValueError(f"{self.owner}: {error.args[0]}") from None
        if not isinstance(value, float | int):
            remedy = "pass validation data to fit" if value is None else "watch a number"
            raise ValueError(f"{self.owner} watches {self.watch!r}, which is {value!r} in this run; {remedy}")
        value = float(value)
        if math.isnan(value):
            return False
        gain = 0.0 if self.value is None else value - self.value
        better = self.value is None or (-gain if self.watch.endswith("loss") else gain) > by
        if better:
            self.value = value
        return better

    def load(self, value: Any) -> None:
        """Take over a best value from a checkpoint."""
        if value is not None and (isinstance(value, bool) or not isinstance(value, float | int)):
            raise ValueError(f"{self.owner}: the best {self.watch} must be a number, got {value!r}")
        self.value = None if value is None else float(value)
