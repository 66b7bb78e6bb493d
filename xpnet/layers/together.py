"""Gradients of a backward that are added to the model's together: on a GPU one launch in place of one for each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from xpnet.backend import Array
from xpnet.kernels import find
from xpnet.layers.observe import is_looked_into

__all__ = ["Waiting", "added_together", "waiting"]


class Waiting:
    """Gradients, and the arrays that they are to be added to."""

    def __init__(self, add_all: Callable[[Sequence[Array], Sequence[Array]], None], most: int) -> None:
        self._add_all, self._most = add_all, most
        self._terms: dict[int, tuple[Array, Array]] = {}  # by the identity of the array that they go to
        self._bytes = 0

    def add(self, total: Array, gradient: Array) -> None:
        """Let a gradient wait for others; a second one of the same parameter, used twice, ends the waiting."""
        if id(total) in self._terms:
            self.finish()
        self._terms[id(total)] = total, gradient
        self._bytes += gradient.nbytes
        if self._bytes > self._most:
            self.finish()

    def finish(self) -> None:
        """Add all that wait."""
        if self._terms:
            sums, terms = zip(*self._terms.values(), strict=True)
            self._terms, self._bytes = {}, 0
            self._add_all(sums, terms)


_waiting: ContextVar[Waiting | None] = ContextVar("gradients that wait", default=None)


def waiting() -> Waiting | None:
    """Return what gradients may be added to later; None if each is to be added at once."""
    return _waiting.get()


@contextlib.contextmanager
def added_together(xp: Any) -> Iterator[None]:
    """Let gradients of the library `xp` be complete at the end of the ``with`` block only, where that is faster.

    While somebody looks into the layers, each is added at once.
    """
    most = find("bytes_to_wait", xp)()
    if not most or is_looked_into():
        yield
        return
    gradients = Waiting(find("add_all", xp), most)
    token = _waiting.set(gradients)
    try:
        yield
        gradients.finish()
    finally:
        _waiting.reset(token)
