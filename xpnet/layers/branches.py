"""Layers side by side on the same input: summed, multiplied, or joined along the channels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from xpnet.backend import Array, array_namespace
from xpnet.errors import ArgumentError, OperationError, ShapeError
from xpnet.kernels import find
from xpnet.kernels.layout import inverse
from xpnet.layers.activation import Identity
from xpnet.layers.base import Layer, Shape
from xpnet.layers.containers import indented, named_children
from xpnet.layers.data_format import check_data_format
from xpnet.layers.fusion import is_new, output_is_new
from xpnet.layers.parameter import Maker
from xpnet.layers.summary import Tensor, Trace

__all__ = ["Add", "Branches", "Multiply", "Parallel", "Residual"]


class Branches(Layer):
    """Base of layers that give one input to several branches and merge what comes out.

    A subclass gives `_merged_shape`, `_merge` and `_split`.
    """

    symbol = "+"  # of the merging, in the path of a summary
    keeps_outputs = False  # whether a training forward keeps what the branches return
    remedy = ""  # for shapes that cannot be merged

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        self._branches = named_children(type(self).__name__, layers)

    def _merged_shape(self, shapes: list[Shape]) -> Shape:
        """Return the shape of the merged outputs, or refuse to merge such shapes."""
        if shapes.count(shapes[0]) < len(shapes):  # broadcasting would hide a mistake
            raise self._misfit("one shape", shapes)
        return shapes[0]

    def _misfit(self, wanted: str, shapes: list[Shape]) -> ShapeError:
        given = ", ".join(f"{name} gives {shape}" for name, shape in zip(self._branches, shapes, strict=True))
        return ShapeError(self.operation, f"the branches must give {wanted}, but {given}{self.remedy}")

    def _merge(self, outputs: list[Array]) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _merge(outputs) -> (y, ctx)")

    def _merge_relu(self, outputs: list[Array]) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _merge_relu(outputs) if it ends in relu")

    def _split(self, dy: Array, ctx: Any) -> list[Array]:
        raise NotImplementedError(f"{type(self).__name__} must define _split(dy, ctx) -> gradients")

    def children(self) -> Mapping[str, Layer]:
        """Return the branches by name: a view that cannot be changed."""
        return MappingProxyType(self._branches)

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        for layer in self.children().values():
            layer._build_tree(input_shape, maker)
        super()._build_tree(input_shape, maker)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the merged outputs."""
        shapes = []
        for name, layer in self._branches.items():
            try:
                shapes.append(tuple(layer.output_shape(input_shape)))
            except OperationError as error:
                raise error.add_layer(name) from None
        return self._merged_shape(shapes)

    def _forward(self, x: Array, train: bool, activation: str | None = None) -> tuple[Array, Any]:
        outputs = []
        for name, layer in self._branches.items():
            try:
                outputs.append(layer.forward(x, train))
            except OperationError as error:
                raise error.add_layer(name) from None
        self._merged_shape([tuple(y.shape[1:]) for y in outputs])
        return self._merge(outputs) if activation is None else self._merge_relu(outputs)

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        return self._backward_of_parts(self._split(dy, ctx), need_dx)

    def _backward_of_parts(self, parts: list[Array], need_dx: bool) -> Array | None:
        """Go back through the branches and sum up what they return, in the memory of one if nobody else holds it."""
        dx: Any = None
        new = False
        # in reverse, so that a layer that occurs in two branches pops its contexts in the right order
        for (name, layer), part in reversed(list(zip(self._branches.items(), parts, strict=True))):
            try:
                through = layer.backward(part, need_dx=need_dx)
            except OperationError as error:
                raise error.add_layer(name) from None
            if need_dx:
                through_is_new = is_new(layer, False)
                if dx is None:
                    dx, new = through, through_is_new
                    continue
                first, second = (through, dx) if through_is_new else (dx, through)
                dx, new = find("add", array_namespace(dx))(first, second, new or through_is_new), True
        return dx

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        outputs = [layer._trace(trace, f"{path}.{name}" if path else name, x) for name, layer in self._branches.items()]
        y = trace.tensor(self.output_shape(x.shape))
        kept = outputs if self.keeps_outputs else ()
        trace.add(self, f"{path}.{self.symbol}" if path else self.symbol, x, y, kept)
        return y

    def __repr__(self) -> str:
        return indented(type(self).__name__, self.children())


class Add(Branches):
    """The sum of the branches' outputs, all of one shape.

    Parameters
    ----------
    *layers : Layer
        Named by their position, or one mapping of names to layers.

    Raises
    ------
    ArgumentError
        If something is no layer, or a name is empty or has a dot.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Activation, Add
    >>> Add(Activation("identity"), Activation("relu"))(np.array([[-1.0, 2.0]]))
    array([[-1., 4.]])
    """

    def _merge(self, outputs: list[Array]) -> tuple[Array, Any]:
        add = find("add", array_namespace(*outputs))
        return functools.reduce(functools.partial(add, overwrite=False), outputs), None

    def _ends_in_relu(self) -> bool:
        return self._is_plain_sum() and len(self._branches) > 1

    def _merge_relu(self, outputs: list[Array]) -> tuple[Array, Any]:
        *earlier, last = outputs
        so_far, (first_layer, *_, last_layer) = self._merge(earlier)[0], self._branches.values()
        new = len(earlier) > 1 or output_is_new(first_layer)
        if not new and output_is_new(last_layer):
            new, so_far, last = True, last, so_far
        y = find("add_relu", array_namespace(last))(so_far, last, new)
        return y, y

    def _backward(self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool = False) -> Array | None:
        if self._is_plain_sum() and ctx is not None:  # the output, which ended in relu
            dy = find("relu_backward", array_namespace(dy))(dy, ctx, overwrite)
            del ctx  # the output need not live as long as this
            return self._backward_of_parts(self._split(dy, None), need_dx)
        return self._backward_of_parts(self._split(dy, ctx), need_dx)

    def _split(self, dy: Array, ctx: Any) -> list[Array]:
        return [dy] * len(self._branches)

    def _is_plain_sum(self) -> bool:
        return type(self) in (Add, Residual)

    def _overwrites_dy(self) -> bool:
        return self._is_plain_sum()

    def _dx_is_new(self, dy_was_new: bool) -> bool:
        return self._is_plain_sum() and len(self._branches) > 1


class Multiply(Branches):
    """The product of the branches' outputs, all of one shape: gates, for instance.

    Parameters
    ----------
    *layers : Layer
        Named by their position, or one mapping of names to layers.

    Raises
    ------
    ArgumentError
        If something is no layer, or a name is empty or has a dot.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Activation, Multiply
    >>> Multiply(Activation("identity"), Activation("relu"))(np.array([[-1.0, 2.0]]))
    array([[-0., 4.]])
    """

    symbol = "*"
    keeps_outputs = True

    def _merge(self, outputs: list[Array]) -> tuple[Array, Any]:
        y = outputs[0]
        for other in outputs[1:]:
            y = y * other
        return y, outputs

    def _split(self, dy: Array, ctx: Any) -> list[Array]:
        parts = []
        for i in range(len(ctx)):
            part = dy
            for j, output in enumerate(ctx):
                if j != i:
                    part = part * output
            parts.append(part)
        return parts


class Parallel(Branches):
    """The outputs of the branches joined along the channels (of features: along the features).

    Parameters
    ----------
    *layers : Layer
        Named by their position, or one mapping of names to layers.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        Where the channels of images are.

    Raises
    ------
    ArgumentError
        If something is no layer, or a name is empty or has a dot.

    References
    ----------
    Szegedy et al., *Going deeper with convolutions*, arXiv:1409.4842.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Conv2D, Parallel
    >>> Parallel(Conv2D(4, 1), Conv2D(2, 3, padding=1))(np.ones((2, 3, 8, 8), np.float32)).shape
    (2, 6, 8, 8)
    """

    symbol = "|"

    def __init__(self, *layers: Layer | Mapping[str, Layer], data_format: str = "NCHW") -> None:
        super().__init__(*layers)
        self.data_format = check_data_format("Parallel", data_format)

    def _axis(self, ndim: int) -> int:
        """Return the axis of the channels, counted with the batch."""
        return 1 if self.data_format == "NCHW" else ndim - 1

    def _merged_shape(self, shapes: list[Shape]) -> Shape:
        axis = self._axis(len(shapes[0]) + 1) - 1
        rests = [(*shape[:axis], *shape[axis + 1 :]) for shape in shapes]
        if rests.count(rests[0]) < len(rests):
            raise self._misfit("images of one size", shapes)
        joined = list(shapes[0])
        joined[axis] = sum(shape[axis] for shape in shapes)
        return tuple(joined)

    def _merge(self, outputs: list[Array]) -> tuple[Array, Any]:
        xp, ndim = array_namespace(*outputs), len(outputs[0].shape)
        axis = self._axis(ndim)
        order = (*range(1, ndim), 0)
        if ndim == 4 and self.data_format == "NCHW":
            order = find("image_order", xp)()
        # joined on a view in the order that the library's kernels like, so that the result lies that way
        joined = xp.concat([xp.permute_dims(y, order) for y in outputs], axis=order.index(axis))
        return xp.permute_dims(joined, inverse(order)), [y.shape[axis] for y in outputs]

    def _split(self, dy: Array, ctx: Any) -> list[Array]:
        axis = self._axis(len(dy.shape))
        parts, start = [], 0
        for size in ctx:
            part = [slice(None)] * len(dy.shape)
            part[axis] = slice(start, start + size)
            parts.append(dy[tuple(part)])
            start += size
        return parts


class Residual(Add):
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

    remedy = "; give a shortcut of the body's shape, such as Conv2D(filters, 1, stride=...)"

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        for name, layer in (("body", body), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and not (name == "shortcut" and layer is None):
                raise ArgumentError("Residual", f"{name} must be a layer, got {layer!r}")
        super().__init__({"body": body, "shortcut": Identity() if shortcut is None else shortcut})

    @property
    def body(self) -> Layer:
        """What is added to the shortcut."""
        return self._branches["body"]

    @property
    def shortcut(self) -> Layer:
        """What is added to the body: `Identity`, if none was given."""
        return self._branches["shortcut"]
