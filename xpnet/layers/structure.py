"""When the parts of models were last exchanged: who has noted the parts of one need not look for them in every step."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpnet.layers.parameter import Maker

__all__ = ["building", "changes", "current_maker", "note_change"]

_changes = 0
_maker: contextvars.ContextVar[Maker | None] = contextvars.ContextVar("maker", default=None)


def changes() -> int:
    """Return how often a layer, of any model, was built or got another layer or parameter so far."""
    return _changes


def note_change() -> None:
    """Count one more."""
    global _changes
    _changes += 1


@contextlib.contextmanager
def building(maker: Maker) -> Iterator[None]:
    """Have layers that meet their first input within a ``with`` block be built by `maker`, as parts of a model."""
    token = _maker.set(maker)
    try:
        yield
    finally:
        _maker.reset(token)


def current_maker() -> Maker | None:
    """Return what builds a model just now, if one is being built by a forward."""
    return _maker.get()
