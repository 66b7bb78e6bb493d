"""A training step that runs out of memory says which layer asked for it and which batch would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from xpnet.backend import Array
from xpnet.errors import OutOfMemoryError
from xpnet.layers.base import Layer
from xpnet.layers.shortage import batch_that_fits, lack_of_memory
from xpnet.optim import Optimizer

__all__ = ["advised"]


@contextmanager
def advised(model: Layer, optimizer: Optimizer, x: Array, micro_batch: int | None = None) -> Iterator[None]:
    """Let an error for lack of memory in a step on the batch `x` end with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lack = error if isinstance(error, OutOfMemoryError) else lack_of_memory(error, "training step", "a step")
        if lack is None:
            raise
        model.forget()
        samples = x.shape[0] if micro_batch is None else min(micro_batch, x.shape[0])
        with suppress(Exception):  # a layer of one's own may not know its shapes, and memory is scarce
            lack.detail += f": {batch_that_fits(model, optimizer, samples)}"
        raise lack from None
