"""Parameters, the factory that makes them, and the flat buffers they live in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet import backend
from xpnet.backend import Array
from xpnet.init import Fans, Initializer, draw
from xpnet.kernels import find
from xpnet.kernels.layout import inverse
from xpnet.layers.together import waiting

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BufferSpec", "Maker", "Parameter", "ParameterSpec", "ParameterStore", "Segment"]


class Parameter:
    """An array that is learnt, and its gradient.

    Attributes
    ----------
    data : array
        The values; usually a view into the model's flat buffer, so write with ``data[...] = ``.
    grad : array, shape and type of `data`
        Sum of the gradients since the last ``zero_grad``.
    name : str
        Path in the model, such as ``"features.0.W"``.
    decay : bool
        Whether weight decay applies; False for biases and for the scales and shifts of normalisation.
    unit_axis : int or None
        The axis that counts the output units; all others are the weights that come into one. By default
        1 of two axes (in, out), 0 of more (F, C, KH, KW), and None of fewer.
    """

    def __init__(self, data: Array, *, name: str = "", decay: bool = True, unit_axis: int | None = None) -> None:
        self.name = name
        self.decay = decay
        axes = len(data.shape)
        self.unit_axis = unit_axis if unit_axis is not None or axes < 2 else int(axes == 2)
        self.place(data)

    def place(self, data: Array) -> None:
        """Take over values made elsewhere (another backend, say), with a gradient of zero beside them."""
        xp = backend.array_namespace(data)
        self.data = data
        self.grad = xp.zeros(tuple(data.shape), dtype=data.dtype, device=backend.device_of(data))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return tuple(self.data.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.data.shape)

    def accumulate(self, gradient: Array) -> None:
        """Add a gradient, so that a layer used twice and micro-batches come out right."""
        others = waiting()
        if others is None:
            self.grad += gradient
        else:
            others.add(self.grad, gradient)

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.shape}, {self.data.dtype})"


class ParameterSpec(NamedTuple):
    """What a parameter is to be: its shape, how its first values are drawn, whether it decays, its units."""

    shape: tuple[int, ...]
    init: Initializer
    fans: Fans
    decay: bool = True
    unit_axis: int | None = None  # see Parameter


class BufferSpec(NamedTuple):
    """What an array of statistics is to be: its shape and the value it starts from."""

    shape: tuple[int, ...]
    value: float


class Maker:
    """Makes the parameters and buffers of a model that is being built, all in one place and of one type."""

    def __init__(self, rng: np.random.Generator, xp: Any, device: Any, dtype: Any) -> None:
        self.rng, self.xp, self.device, self.dtype = rng, xp, device, dtype

    def parameter(self, spec: ParameterSpec) -> Parameter:
        """Draw a parameter."""
        values = draw(spec.init, self.rng, spec.shape, spec.fans, backend.dtype_name(self.dtype))
        data = self.xp.asarray(values, dtype=self.dtype, device=self.device, copy=True)
        return Parameter(data, decay=spec.decay, unit_axis=spec.unit_axis)

    def buffer(self, spec: BufferSpec) -> Array:
        """Make an array of statistics, in at least float32."""
        dtype = backend.wide_dtype(self.xp, self.dtype)
        return self.xp.full(spec.shape, spec.value, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Return zeros of the type of the parameters, where they are."""
        return self.xp.zeros(shape, dtype=self.dtype, device=self.device)

    def seed(self) -> int:
        """Draw a seed for a layer that needs random numbers of its own."""
        return int(self.rng.integers(2**63))


class Segment:
    """A flat array of weights with its gradient: all parameters of one float type.

    Attributes
    ----------
    data, grad : array (size,)
    parameters : list of Parameter
        In the order in which they lie in `data`.
    """

    def __init__(self, data: Array, grad: Array, parameters: list[Parameter]) -> None:
        self.data, self.grad, self.parameters = data, grad, parameters

    def parts(self) -> list[Any]:
        """Return the index of each parameter in `data`."""
        if len(self.parameters) == 1:
            return [...]  # on a library without writable views `data` is the parameter, of any shape
        ends = list(itertools.accumulate(p.size for p in self.parameters))
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    def views(self, flat: Array | None = None) -> list[Array]:
        """Return the part that belongs to each parameter, in its shape, of `data` or of an array that lies like it."""
        whole = self.data if flat is None else flat
        return [_shaped(whole, part, p.shape) for part, p in zip(self.parts(), self.parameters, strict=True)]

    def gathered(self, values: Sequence[Array], like: Array) -> Array:
        """Return an array of the shape and type of `like` that lies like `data`, of what each parameter has."""
        xp = backend.array_namespace(like)
        a = xp.empty_like(like)
        for part, value in zip(self.parts(), values, strict=True):
            a[part] = _flat(value, tuple(a[part].shape))
        return a

    def per_element(self, values: Sequence[float]) -> Array:
        """Return an array of the shape and type of `data` with one value for each parameter."""
        xp = backend.array_namespace(self.data)
        a = xp.zeros(tuple(self.data.shape), dtype=self.data.dtype, device=backend.device_of(self.data))
        for part, value in zip(self.parts(), values, strict=True):
            a[part] = float(value)
        return a


def _shaped(data: Array, part: Any, shape: tuple[int, ...]) -> Array:
    """Return a part of a flat array in a shape; the array itself where it has that shape."""
    if tuple(data.shape) == shape:
        return data
    xp = backend.array_namespace(data)
    if len(shape) != 4:
        return xp.reshape(data[part], shape)
    order = find("weight_order", xp)()
    return xp.permute_dims(xp.reshape(data[part], tuple(shape[axis] for axis in order)), inverse(order))


def _flat(a: Array, shape: tuple[int, ...]) -> Array:
    """Return an array as it lies in a part of that shape of a flat array; the opposite of `_shaped`."""
    if tuple(a.shape) == shape:
        return a
    xp = backend.array_namespace(a)
    if len(a.shape) == 4:
        a = xp.permute_dims(a, find("weight_order", xp)())
    return xp.reshape(a, shape)


class ParameterStore:
    """The flat buffers of a model: one array of weights and one of gradients per float type.

    After construction the parameters are views into them, so an optimizer, a clipping or a reduction
    between processes is one pass over one array. On a library whose slices are copies each parameter
    is a segment of its own; results are the same.
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = list(parameters)
        self.segments: list[Segment] = []
        by_type: dict[tuple[Any, Any, Any], list[Parameter]] = {}
        for p in self.parameters:
            key = (backend.array_namespace(p.data), p.data.dtype, backend.device_of(p.data))
            by_type.setdefault(key, []).append(p)
        for (xp, dtype, device), members in by_type.items():
            if backend.has_writable_views(xp):
                self.segments.append(self._flatten(xp, dtype, device, members))
            else:
                self.segments.extend(Segment(p.data, p.grad, [p]) for p in members)
        self._views = [p.data for p in self.parameters]

    def is_current(self) -> bool:
        """Tell whether the parameters still lie here, and not in the buffers of another model."""
        return all(p.data is view for p, view in zip(self.parameters, self._views, strict=True))

    def holds(self, parameters: Sequence[Parameter]) -> bool:
        """Tell whether these are the parameters that the buffers were made for."""
        return list(map(id, parameters)) == list(map(id, self.parameters))

    @staticmethod
    def _flatten(xp: Any, dtype: Any, device: Any, parameters: list[Parameter]) -> Segment:
        size = sum(p.size for p in parameters)
        data = xp.empty((size,), dtype=dtype, device=device)
        grad = xp.empty((size,), dtype=dtype, device=device)
        start = 0
        for p in parameters:
            part = slice(start, start + p.size)
            data[part] = _flat(p.data, (p.size,))
            grad[part] = _flat(p.grad, (p.size,))
            p.data, p.grad = _shaped(data, part, p.shape), _shaped(grad, part, p.shape)
            start += p.size
        return Segment(data, grad, parameters)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for segment in self.segments:
            segment.grad[...] = 0.0
