"""Layers made of layers: one after another; and what all such layers share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError, OperationError
from xpnet.functional.checks import check_positive_int
from xpnet.layers import state, structure
from xpnet.layers.base import Layer, Shape
from xpnet.layers.fusion import (
    MOST,
    backward_with,
    foldable_pairs,
    fused,
    is_new,
    output_is_new,
    relu_behind_pooling,
    weights_folded,
)
from xpnet.layers.parameter import Maker
from xpnet.layers.summary import Tensor, Trace

__all__ = ["Sequential", "drop_all", "indented", "named_children"]


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        Named by their position, or one mapping of names to layers. A layer may occur more than once:
        its gradients add up.
    checkpoint_every : int, optional
        Keep only the input of every so many layers in a training forward, and compute what lies between anew for
        backward, with the same dropout masks: less memory for one more forward. The gradients are the same: to the
        bit, or to rounding where a segment ends between a layer and its relu, which then do not run as one.

    Raises
    ------
    ArgumentError
        If something is no layer, a name is empty or has a dot, or checkpoint_every is no positive int.

    References
    ----------
    Chen et al., *Training deep nets with sublinear memory cost*, arXiv:1604.06174.

    Examples
    --------
    >>> from xpnet.layers import Conv2D, Dense, Flatten, Sequential
    >>> model = Sequential(Conv2D(8, 3, activation="relu"), Flatten(), Dense(10)).build((1, 8, 8))
    >>> [name for name, p in model.named_parameters()]
    ['0.W', '0.b', '2.W', '2.b']
    >>> Sequential({"hidden": Dense(4), "output": Dense(2)}).build((3,)).parameters()[0].name
    'hidden.W'
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer], checkpoint_every: int | None = None) -> None:
        super().__init__()
        self._layers = named_children("Sequential", layers)
        if checkpoint_every is not None:
            checkpoint_every = check_positive_int("Sequential", "checkpoint_every", checkpoint_every)
        self.checkpoint_every = checkpoint_every
        self._learning = (-1, 0)  # changes of the structure, and the position of the first layer with parameters then
        self._foldable: tuple[int, list[tuple[Layer, Layer]]] = (-1, [])  # the same, and its `foldable_pairs`

    def children(self) -> Mapping[str, Layer]:
        """Return the layers by name: a view that cannot be changed."""
        return MappingProxyType(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers.values())

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, key: int | str) -> Layer:
        return self._layers[key] if isinstance(key, str) else list(self)[key]

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        if self.built:
            return
        shape = input_shape
        for layer in self:
            layer._build_tree(shape, maker)
            shape = layer.output_shape(shape)
        super()._build_tree(input_shape, maker)

    @property
    def _first_learning(self) -> int:
        """Position of the first layer with parameters."""
        if self._learning[0] != structure.changes():
            first = next((i for i, layer in enumerate(self) if layer.parameters()), len(self))
            self._learning = structure.changes(), first
        return self._learning[1]

    @property
    def _foldable_pairs(self) -> list[tuple[Layer, Layer]]:
        if self._foldable[0] != structure.changes():
            self._foldable = structure.changes(), foldable_pairs(self)
        return self._foldable[1]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the last layer's output."""
        shape = tuple(input_shape)
        for name, layer in self._layers.items():
            try:
                shape = layer.output_shape(shape)
            except OperationError as error:
                raise error.add_layer(name) from None
        return shape

    def _segments(self) -> list[range]:
        """Return the positions of the layers between two checkpoints: of all, without `checkpoint_every`."""
        size = self.checkpoint_every or len(self)
        return [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _run(self, positions: range, x: Array, train: bool, keep: bool) -> Array:
        """Go forward through some layers; without `keep`, what training keeps is dropped at once."""
        layers, start, kept = list(self), positions.start, positions.start
        try:
            while start < positions.stop:
                count, run = fused(layers[start : min(start + MOST, positions.stop)], train)
                x = run(x)
                start += count
                if keep:
                    kept = start
                elif train:
                    drop_all(layers[start - count : start])
        except BaseException as error:
            if train:
                drop_all(reversed(layers[positions.start : kept]))
            if isinstance(error, OperationError):
                error.add_layer(list(self._layers)[start])
            raise
        return x

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        *earlier, last = self._segments()
        if not train:
            with weights_folded(self._foldable_pairs):
                return self._run(range(len(self)), x, train, keep=False), None
        checkpoints = []
        for positions in earlier:
            checkpoints.append((x, self.random_state()))
            x = self._run(positions, x, train, keep=False)
        return self._run(last, x, train, keep=True), checkpoints

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        *earlier, last = self._segments()
        dx = self._backward_through(last, dy, need_dx)
        for positions in reversed(earlier):
            x, masks = ctx.pop()
            if need_dx or positions.stop > self._first_learning:
                with self._as_before(masks):
                    self._run(positions, x, train=True, keep=True)
                dx = self._backward_through(positions, dx, need_dx)
        return dx

    def _backward_through(self, positions: range, dy: Array | None, need_dx: bool) -> Array | None:
        dx, layers, new = dy, list(self), False
        for i in reversed(positions):
            layer = layers[i]
            if not need_dx and i < self._first_learning:
                layer.drop_pending()  # nothing before it learns
                dx = None
                continue
            try:
                dx, new = relu_behind_pooling(layers[max(i - 2, 0) : i], layer, dx, new)
                dx = backward_with(layer, new, dx, need_dx or i > self._first_learning)
            except OperationError as error:
                raise error.add_layer(list(self._layers)[i]) from None
            new = is_new(layer, new)
        return dx

    def _runs_as_written_here(self) -> bool:
        cls = type(self)
        ours = cls._forward is Sequential._forward and cls._backward is Sequential._backward
        return ours and cls.forward is Layer.forward and cls.backward is Layer.backward

    def _dx_is_new(self, dy_was_new: bool) -> bool:
        if not self._runs_as_written_here():
            return False
        for layer in reversed(self._layers.values()):
            dy_was_new = is_new(layer, dy_was_new)
        return dy_was_new

    def _output_is_new(self) -> bool:
        return self._runs_as_written_here() and output_is_new(self[-1])

    @contextlib.contextmanager
    def _as_before(self, masks: Mapping[str, int]) -> Iterator[None]:
        """Draw earlier random masks again, and leave what training counts and averages as it is."""
        put_back = state.moving(self)
        self.load_random_state(masks)
        try:
            yield
        finally:
            put_back()

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        layers, segments = list(self._layers.items()), self._segments()
        for positions in segments:
            with trace.segment(x) if len(segments) > 1 else contextlib.nullcontext():
                for i in positions:
                    name, layer = layers[i]
                    x = layer._trace(trace, f"{path}.{name}" if path else name, x)
        return x

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along."""
        return super().__getstate__() | {"_learning": (-1, 0), "_foldable": (-1, [])}

    def __repr__(self) -> str:
        text = indented(type(self).__name__, self._layers)
        return text if self.checkpoint_every is None else f"{text[:-1]}  checkpoint_every={self.checkpoint_every}\n)"


def named_children(operation: str, layers: Sequence[Layer | Mapping[str, Layer]]) -> dict[str, Layer]:
    """Return layers by name: by position, or as one mapping names them."""
    if len(layers) == 1 and isinstance(layers[0], Mapping):
        named = dict(layers[0])
    else:
        named = {str(i): layer for i, layer in enumerate(layers)}  # type: ignore[misc]
    if not named:
        raise ArgumentError(operation, "expected at least one layer")
    for name, layer in named.items():
        if not isinstance(layer, Layer):
            raise ArgumentError(operation, f"expected layers, got {layer!r} ({type(layer).__name__}) as {name!r}")
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(operation, f"a layer's name must be a word without dots, got {name!r}")
    return named


def drop_all(layers: Iterable[Layer]) -> None:
    """Take back what the latest training forwards kept, so that no later backward trips over it."""
    for layer in layers:
        layer.drop_pending()


def indented(title: str, children: Mapping[str, Layer]) -> str:
    """Return the representation of a layer made of layers, one a line."""
    lines = [f"  {name}: {layer!r}".replace("\n", "\n  ") for name, layer in children.items()]
    return "\n".join([f"{title}(", *lines, ")"])
