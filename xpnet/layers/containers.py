"""Layers made of layers: one after another; and what all such layers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError, OperationError
from xpnet.layers.base import Layer, Shape
from xpnet.layers.parameter import Maker
from xpnet.layers.summary import Tensor, Trace

__all__ = ["Sequential", "backward_child", "drop_all", "forward_child", "indented", "named_children"]


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        Named by their position, or one mapping of names to layers. A layer may occur more than once:
        its gradients add up.

    Raises
    ------
    ArgumentError
        If something is no layer, or a name is empty or has a dot.

    Examples
    --------
    >>> from xpnet.layers import Conv2D, Dense, Flatten, Sequential
    >>> model = Sequential(Conv2D(8, 3, activation="relu"), Flatten(), Dense(10)).build((1, 8, 8))
    >>> [name for name, p in model.named_parameters()]
    ['0.W', '0.b', '2.W', '2.b']
    >>> Sequential({"hidden": Dense(4), "output": Dense(2)}).build((3,)).parameters()[0].name
    'hidden.W'
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        self._layers = named_children("Sequential", layers)
        self._first_learning = 0  # position of the first layer with parameters

    def children(self) -> dict[str, Layer]:
        """Return the layers by name."""
        return self._layers

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
        learning = [i for i, layer in enumerate(self) if layer.parameters()]
        self._first_learning = learning[0] if learning else len(self)
        super()._build_tree(input_shape, maker)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the last layer's output."""
        shape = tuple(input_shape)
        for name, layer in self._layers.items():
            try:
                shape = layer.output_shape(shape)
            except OperationError as error:
                raise error.add_layer(name) from None
        return shape

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        done: list[Layer] = []
        try:
            for name, layer in self._layers.items():
                x = forward_child(name, layer, x, train)
                done.append(layer)
        except BaseException:
            if train:
                drop_all(reversed(done))
            raise
        return x, None

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        dx: Array | None = dy
        layers = list(self._layers.items())
        for i in range(len(layers) - 1, -1, -1):
            name, layer = layers[i]
            if not need_dx and i < self._first_learning:
                layer.drop_pending()  # nothing before it learns
                dx = None
            else:
                dx = backward_child(name, layer, dx, need_dx or i > self._first_learning)
        return dx

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        for name, layer in self._layers.items():
            x = layer._trace(trace, f"{path}.{name}" if path else name, x)
        return x

    def __repr__(self) -> str:
        return indented(type(self).__name__, self._layers)


def forward_child(name: str, child: Layer, x: Array, train: bool) -> Array:
    """Run a child, putting its name into the path of an error."""
    try:
        return child.forward(x, train)
    except OperationError as error:
        raise error.add_layer(name) from None


def backward_child(name: str, child: Layer, dy: Array | None, need_dx: bool) -> Array | None:
    try:
        return child.backward(dy, need_dx=need_dx)
    except OperationError as error:
        raise error.add_layer(name) from None


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
        if not name or "." in name:
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
