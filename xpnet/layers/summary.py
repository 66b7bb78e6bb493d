"""The table that `Layer.summary` returns, and how a model is walked to fill it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from xpnet import backend
from xpnet.config import parse_bytes
from xpnet.layers.memory import TrainingMemory, kept_up_to, largest_batch, training_memory
from xpnet.text import table

if TYPE_CHECKING:
    from xpnet.layers.base import Layer
    from xpnet.optim import Optimizer

__all__ = ["Keeps", "Row", "Summary", "Tensor", "Trace", "summarize"]


class Row(NamedTuple):
    """One layer of a summary, for one sample."""

    path: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    kept_bytes: int  # activations kept for backward, each counted at the first layer that keeps it
    multiply_adds: int
    segment: int | None = (
        None  # of layers between two checkpoints of `Sequential`, whose activations come and go as one
    )
    checkpoint_bytes: int = 0  # of the segment's input, at the first of its layers
    overwrites: bool = False  # whether its backward works in the memory of dy, which the layer after it has made


@dataclass(frozen=True)
class Summary:
    """What a model is made of; ``print`` shows it as a table.

    Attributes
    ----------
    name : str
    input_shape : tuple of int
        Without the batch.
    rows : list of Row
    itemsize : int
        Bytes of one number of the model's float type.
    """

    name: str
    input_shape: tuple[int, ...]
    rows: list[Row]
    itemsize: int

    @property
    def parameters(self) -> int:
        """Number of parameters; those of a layer used twice count once."""
        return sum(row.parameters for row in self.rows)

    @property
    def kept_bytes(self) -> int:
        """Bytes of activations that a training step keeps at once for each sample of the batch.

        The sum of those of the layers, but with the checkpoints of `Sequential` of one segment at a time.
        """
        return max(kept_up_to(self.rows), default=0)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward of one sample; a training step does about three times as many."""
        return sum(row.multiply_adds for row in self.rows)

    def training_memory(self, batch: int, optimizer: str | Optimizer = "adam") -> TrainingMemory:
        """Predict the memory of a training step.

        Counted are the weights and their gradients, the optimizer's state, the activations kept for backward, and what
        the layer or the update that takes most holds on top. Left out are the data set, what the array library, BLAS
        or cuDNN take for themselves, and memory that a pool holds back. With NumPy alone, the peak of steps of thirteen
        of xpnet's models was at most 1.1 times the prediction, and at least 0.9 times what it is without one block of a
        convolution's columns (``XPNET_CONV_WORKSPACE``); with Numba, that of the
        benchmark's six networks 0.91 to 1.12 times the prediction. Nothing else has been measured.

        Parameters
        ----------
        batch : int
            Samples in a step.
        optimizer : str or Optimizer, default "adam"

        Returns
        -------
        TrainingMemory

        Raises
        ------
        ValueError
            If batch is below 1, or there is no such optimizer.

        Examples
        --------
        >>> from xpnet import config
        >>> from xpnet.models import LeNet
        >>> with config.using(compiled="off"):  # compiled kernels need less scratch memory
        ...     print(LeNet().summary((1, 28, 28)).training_memory(64, "sgd"))
        parameters                 177,704 bytes
        gradients                  177,704 bytes
        optimizer state                  0 bytes
        activations              1,686,528 bytes
        scratch                  4,569,536 bytes
        total                    6,611,472 bytes
        """
        return training_memory(self, batch, optimizer)

    def largest_batch(self, memory: int | str, optimizer: str | Optimizer = "adam") -> int:
        """Find the largest batch whose training step is predicted to fit into so much memory.

        Parameters
        ----------
        memory : int or str
            Bytes, or as ``"4GB"``.
        optimizer : str or Optimizer, default "adam"

        Returns
        -------
        int
            0 if not even one sample fits.

        Raises
        ------
        ValueError
            If memory is no size, or there is no such optimizer.

        Examples
        --------
        >>> from xpnet.models import VGG
        >>> VGG(16, 1000).summary((3, 224, 224)).largest_batch("8GB", "momentum")
        106
        """
        return largest_batch(self, parse_bytes(memory), optimizer)

    def __str__(self) -> str:
        header = ("layer", "kind", "output shape", "parameters", "kept bytes", "multiply-adds")
        lines = [
            (
                r.path,
                r.kind,
                str(r.output_shape),
                f"{r.parameters:,}",
                f"{r.kept_bytes:,}",
                f"{r.multiply_adds:,}",
            )
            for r in self.rows
        ]
        total = ("total", "", "", f"{self.parameters:,}", f"{self.kept_bytes:,}", f"{self.multiply_adds:,}")
        head, *body = table([header, *lines, total], left=(0, 1, 2)).splitlines()
        rule = "-" * max(map(len, (head, *body)))
        title = f"{self.name} on input {self.input_shape}; bytes and multiply-adds are per sample"
        return "\n".join([title, rule, head, rule, *body[:-1], rule, body[-1]])

    __repr__ = __str__


class Tensor(NamedTuple):
    """An activation on its way through the model; views share the number of what they look at."""

    number: int
    shape: tuple[int, ...]


class Trace:
    """Collects the rows of a summary while the layers pass tensors on."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize
        self.rows: list[Row] = []
        self._tensors = 0
        self._kept: set[int] = set()
        self._counted: set[int] = set()
        self._segments = 0
        self._segment: int | None = None  # the one that the next rows belong to
        self._checkpoint_bytes = 0  # of it, until its first row has them
        self._last: tuple[int, Layer] | None = None  # row and layer that the next one's dx goes to

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        """Return a new activation."""
        self._tensors += 1
        return Tensor(self._tensors, tuple(shape))

    @contextlib.contextmanager
    def segment(self, x: Tensor) -> Iterator[None]:
        """Take the rows added in a ``with`` block for layers of which only the input `x` is kept all the time."""
        if self._segment is not None:  # what is inside another one comes and goes with it
            yield
            return
        self._checkpoint_bytes = 0 if x.number in self._kept else math.prod(x.shape) * self.itemsize
        self._kept.add(x.number)
        kept = set(self._kept)
        self._segments += 1
        self._segment = self._segments
        try:
            yield
        finally:
            self._segment, self._kept = None, kept

    def add(self, layer: Layer, path: str, x: Tensor, y: Tensor, others: Sequence[Tensor] = ()) -> None:
        """Add the row of a layer that turns x into y, and keeps `others` beside what it says itself."""
        keeps = layer._keeps(x.shape, y.shape, self.itemsize)
        kept = keeps.extra_bytes
        for tensor, is_kept in ((x, keeps.input), (y, keeps.output), *((other, True) for other in others)):
            if is_kept and tensor.number not in self._kept:
                self._kept.add(tensor.number)
                kept += math.prod(tensor.shape) * self.itemsize
        parameters = 0
        for _, part in layer.named_layers():  # layers of it that have no rows of their own count here, once built
            shape = x.shape if part is layer else part.input_shape
            if shape is not None and id(part) not in self._counted:
                self._counted.add(id(part))
                parameters += sum(math.prod(spec.shape) for spec in part._parameter_specs(shape).values())
        kind = type(layer).__name__
        macs = layer._multiply_adds(x.shape, y.shape)
        checkpoint, self._checkpoint_bytes = self._checkpoint_bytes, 0
        self._note_overwriting(layer)
        self.rows.append(Row(path or kind, kind, x.shape, y.shape, parameters, kept, macs, self._segment, checkpoint))

    def _note_overwriting(self, layer: Layer) -> None:
        """Note of the layer before whether it may write over what the backward of this one returns."""
        from xpnet.layers.fusion import overwrites  # which imports the layers

        if self._last is not None:
            row, before = self._last
            self.rows[row] = self.rows[row]._replace(overwrites=overwrites(before, layer))
        self._last = len(self.rows), layer


class Keeps(NamedTuple):
    """What a training forward keeps of one sample: its input, its output, and other bytes."""

    input: bool = False
    output: bool = False
    extra_bytes: int = 0


def summarize(model: Layer, input_shape: tuple[int, ...]) -> Summary:
    """Walk a model, built or not, for inputs of `input_shape` (without the batch)."""
    dtype = model.parameters()[0].data.dtype if model.parameters() else backend.get().dtype
    size = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}[backend.dtype_name(dtype)]
    model.output_shape(input_shape)  # an error of the whole chain names the layer's path
    trace = Trace(size)
    model._trace(trace, "", trace.tensor(input_shape))
    return Summary(type(model).__name__, input_shape, trace.rows, size)
