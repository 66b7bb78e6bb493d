"""How much memory a training step takes, from the summary of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from xpnet import config
from xpnet.cores import threads_allowed
from xpnet.kernels.table import uses_compiled

if TYPE_CHECKING:
    from xpnet.layers.summary import Row, Summary
    from xpnet.optim import Optimizer

__all__ = ["TrainingMemory", "kept_up_to", "largest_batch", "training_memory"]

# arrays as large as the weights that an update holds at once beside the state, measured with NumPy, whose Adam works
# in blocks
UPDATE = {"sgd": 1, "momentum": 1, "nesterov": 2, "adagrad": 3, "adadelta": 3, "rmsprop": 3, "adam": 0, "amsgrad": 2,
          "adamw": 2,
          "lion": 2, "lamb": 2}  # fmt: skip
COUPLED = frozenset(UPDATE) - {"adamw", "lion", "lamb"}  # weight decay is added to a copy of the gradient
LIMIT = 1 << 40  # no batch is larger
COMPILED = 1 << 19  # bytes that a thread of compiled convolutions works in, about


class TrainingMemory(NamedTuple):
    """Bytes that a training step holds at its peak; ``print`` shows them with their sum."""

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int  # kept from forward for backward
    scratch: int  # what a layer or the update takes on top, where that is most

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self)

    def __str__(self) -> str:
        parts = [(name.replace("_", " "), value) for name, value in zip(self._fields, self, strict=True)]
        return "\n".join(f"{name:<16}{value:>18,} bytes" for name, value in [*parts, ("total", self.total)])


def training_memory(summary: Summary, batch: int, optimizer: str | Optimizer = "adam") -> TrainingMemory:
    """Predict the memory of a training step; see `Summary.training_memory`."""
    if not hasattr(batch, "__index__") or batch < 1:
        raise ValueError(f"training_memory: batch must be a whole number from 1 on, got {batch!r}")
    weights = summary.parameters * summary.itemsize
    wide = summary.parameters * max(summary.itemsize, 4)
    state, update = _optimizer_arrays(optimizer)
    if wide > weights:
        state, update = state + 1, update + 1  # master weights, and the gradients in their type
    activations = int(batch) * summary.kept_bytes
    at_peak = max(_backward_peak(summary, int(batch)), update * wide)
    return TrainingMemory(weights, weights, state * wide, activations, max(0, at_peak - activations))


def largest_batch(summary: Summary, memory: int, optimizer: str | Optimizer = "adam") -> int:
    """Find the largest batch that fits; see `Summary.largest_batch`."""
    fits, too_large = 0, 1
    while too_large < LIMIT and training_memory(summary, too_large, optimizer).total <= memory:
        fits, too_large = too_large, 2 * too_large
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if training_memory(summary, middle, optimizer).total <= memory:
            fits = middle
        else:
            too_large = middle
    return fits


def kept_up_to(rows: Sequence[Row]) -> list[int]:
    """Return, for each row, the bytes of activations of one sample that are kept when backward comes to it."""
    result, lasting, passing, segment = [], 0, 0, None
    for row in rows:
        lasting += row.checkpoint_bytes
        if row.segment is None:
            lasting += row.kept_bytes
        else:
            passing = row.kept_bytes + (passing if row.segment == segment else 0)
            segment = row.segment
        result.append(lasting + passing)
    return result


def _backward_peak(summary: Summary, batch: int) -> int:
    """Return the most that activations and gradients of one layer take on the way back.

    At a layer there are the activations kept up to it, the gradient of its output before and after the activation
    function (in one place, if the layer may), that of its input (not at the first that learns), those of its weights,
    and a convolution's columns.
    """
    most = 0
    learning = False  # whether a layer before this one learns
    for row, kept in zip(summary.rows, kept_up_to(summary.rows), strict=True):
        x, y = (batch * math.prod(shape) for shape in (row.input_shape, row.output_shape))
        elements = (1 if row.overwrites else 2) * y + row.parameters + x * learning
        most = max(most, batch * kept + elements * summary.itemsize + _columns(summary, row, batch, learning))
        learning = learning or row.parameters > 0
    return most


def _columns(summary: Summary, row: Row, batch: int, need_dx: bool) -> int:
    """Return the bytes of a convolution's columns: of all, or of one block."""
    if not row.multiply_adds or len(row.output_shape) != 3:
        return 0
    channels = min(row.output_shape[0], row.input_shape[0]) if need_dx else row.output_shape[0]
    most = config.get("conv_workspace")
    if uses_compiled():
        most = min(most, COMPILED * threads_allowed())
    return min(most, batch * row.multiply_adds // channels * summary.itemsize)


def _optimizer_arrays(optimizer: str | Optimizer) -> tuple[int, int]:
    """Return how many arrays as large as the weights an optimizer keeps, and how many more an update holds at once."""
    from xpnet import optim  # which imports the layers

    made = optim.by_name(optimizer, lr=1.0) if isinstance(optimizer, str) else optimizer
    name = "amsgrad" if getattr(made, "amsgrad", False) else type(made).__name__.lower()
    factors = bool(made.weight_decay) + bool(made.l1)  # one for each weight, since biases do not decay
    copies = bool(made.weight_decay and name in COUPLED) + bool(made.l1) + bool(made.clip_norm) + bool(made.clip_value)
    update = max(UPDATE.get(name, max(UPDATE.values())), int(bool(made.l1)))  # l1 * sign(w), before it is added
    return len(made._state_names()) + factors, update + copies
