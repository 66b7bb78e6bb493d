"""Learning rates over a run: ``schedule(position)`` is the rate, the position counted in epochs or updates.

All but `Plateau` are pure functions of the position, so a run that is resumed needs nothing but its
position. `Trainer` takes one as ``schedule=`` and sets ``optimizer.lr`` before each epoch or each update,
as the schedule's `every` says; in a loop of one's own it is one line::

    for epoch in range(epochs):
        optimizer.lr = schedule(epoch)
        ...
        schedule.observe(validation_loss)  # only Plateau listens

>>> from xpnet.schedules import Cosine, Warmup
>>> schedule = Warmup(Cosine(0.1, period=90), length=10)
>>> [round(schedule(epoch), 4) for epoch in (0, 5, 10, 55, 100)]
[0.001, 0.0505, 0.1, 0.05, 0.0]
"""

from xpnet.schedules.base import Function, Schedule, as_schedule
from xpnet.schedules.curves import Cosine, Exponential, MultiStep, OneCycle, Polynomial, Step
from xpnet.schedules.plateau import Plateau
from xpnet.schedules.warmup import Warmup

__all__ = [
    "Cosine",
    "Exponential",
    "Function",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
    "as_schedule",
]
