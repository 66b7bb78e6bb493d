"""Work cut into calls, of which several can be shared out together, so that threads wait for one another once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet.kernels.numpy.conv import at_most
from xpnet.kernels.team import run_all

__all__ = ["Work", "done"]


class Work(NamedTuple):
    """Calls that do not depend on one another, and what they make."""

    calls: list[Callable[[], None]]
    memory: int  # bytes of scratch memory that each of them takes
    result: Callable[[], Any]  # once all calls are made


def done(*works: Work) -> list[Any]:
    """Make all calls together, and return what each work made."""
    memory = max((work.memory for work in works), default=1)
    run_all([call for work in works for call in work.calls], at_most=at_most(memory))
    for work in works:
        work.calls.clear()  # and with them the arrays that they alone needed
    return [work.result() for work in works]
