"""Layers made of layers: one after another, and around a shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError, OperationError, ShapeError
from xpnet.layers.base import Layer, Shape
from xpnet.layers.parameter import Maker
from xpnet.layers.summary import Keeps, Tensor, Trace

__all__ = ["Residual", "Sequential"]


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
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = dict(layers[0])
        else:
            named = {str(i): layer for i, layer in enumerate(layers)}  # type: ignore[misc]
        if not named:
            raise ArgumentError("Sequential", "expected at least one layer")
        for name, layer in named.items():
            if not isinstance(layer, Layer):
                raise ArgumentError(
                    "Sequential", f"expected layers, got {layer!r} ({type(layer).__name__}) as {name!r}"
                )
            if not name or "." in name:
                raise ArgumentError("Sequential", f"a layer's name must be a word without dots, got {name!r}")
        self._layers: dict[str, Layer] = named
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
                x = _forward_child(name, layer, x, train)
                done.append(layer)
        except BaseException:
            if train:  # leave nothing behind for a later backward to trip over
                for layer in reversed(done):
                    layer.drop_pending()
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
                dx = _backward_child(name, layer, dx, need_dx or i > self._first_learning)
        return dx

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        for name, layer in self._layers.items():
            x = layer._trace(trace, f"{path}.{name}" if path else name, x)
        return x

    def __repr__(self) -> str:
        lines = [f"  {name}: {layer!r}".replace("\n", "\n  ") for name, layer in self._layers.items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class Residual(Layer):
    """y = body(x) + shortcut(x).

    Parameters
    ----------
    body : Layer
    shortcut : Layer, optional
        By default x itself; a 1x1 `Conv2D` where the body changes the shape.

    Raises
    ------
    ArgumentError
        If body or shortcut is no layer.

    References
    ----------
    He et al., *Deep residual learning for image recognition*, arXiv:1512.03385.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Conv2D, Residual
    >>> Residual(Conv2D(3, 3, padding=1))(np.ones((2, 3, 8, 8), np.float32)).shape
    (2, 3, 8, 8)
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        for name, layer in (("body", body), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and not (name == "shortcut" and layer is None):
                raise ArgumentError("Residual", f"{name} must be a layer, got {layer!r}")
        self.body = body
        self.shortcut = shortcut

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        for layer in self.children().values():
            layer._build_tree(input_shape, maker)
        super()._build_tree(input_shape, maker)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the sum."""
        shapes = {"shortcut": tuple(input_shape)}
        for name, layer in self.children().items():
            try:
                shapes[name] = layer.output_shape(input_shape)
            except OperationError as error:
                raise error.add_layer(name) from None
        self._check_sum(shapes["body"], shapes["shortcut"])
        return shapes["body"]

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        done: list[Layer] = []
        try:
            y = _forward_child("body", self.body, x, train)
            done.append(self.body)
            through = x
            if self.shortcut is not None:
                through = _forward_child("shortcut", self.shortcut, x, train)
                done.append(self.shortcut)
            self._check_sum(tuple(y.shape), tuple(through.shape))
            return y + through, None
        except BaseException:
            if train:  # leave nothing behind for a later backward to trip over
                for layer in reversed(done):
                    layer.drop_pending()
            raise

    def _check_sum(self, body: Shape, shortcut: Shape) -> None:
        if body != shortcut:  # a sum would broadcast sizes of 1
            raise ShapeError(
                "Residual",
                f"body gives {body} but the shortcut {shortcut}; give a shortcut of the "
                "body's shape, such as Conv2D(filters, 1, stride=...)",
            )

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        through: Any = dy
        if self.shortcut is not None:
            through = _backward_child("shortcut", self.shortcut, dy, need_dx)
        dx: Any = _backward_child("body", self.body, dy, need_dx)
        return dx + through if need_dx else None

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        for name, layer in self.children().items():
            layer._trace(trace, f"{path}.{name}" if path else name, x)
        y = trace.tensor(self.output_shape(x.shape))
        trace.add(self, f"{path}.+" if path else "+", x, y)
        return y

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps()

    def __repr__(self) -> str:
        lines = [f"  {name}: {layer!r}".replace("\n", "\n  ") for name, layer in self.children().items()]
        return "\n".join(["Residual(", *lines, ")"])


def _forward_child(name: str, child: Layer, x: Array, train: bool) -> Array:
    """Run a child, putting its name into the path of an error."""
    try:
        return child.forward(x, train)
    except OperationError as error:
        raise error.add_layer(name) from None


def _backward_child(name: str, child: Layer, dy: Array | None, need_dx: bool) -> Array | None:
    try:
        return child.backward(dy, need_dx=need_dx)
    except OperationError as error:
        raise error.add_layer(name) from None
