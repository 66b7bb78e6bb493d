"""The tree that a model is: its layers, parameters and statistics by name, how they are built, saved and moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from xpnet import backend
from xpnet.backend import Array
from xpnet.errors import ShapeError, StateError
from xpnet.functional.checks import check_arrays
from xpnet.layers import state, structure
from xpnet.layers.parameter import BufferSpec, Maker, Parameter, ParameterSpec, ParameterStore
from xpnet.random import generator

if TYPE_CHECKING:
    import numpy as np

    from xpnet.layers.base import Layer

__all__ = ["Module", "Shape"]

Shape = tuple[int, ...]


class Module:
    """What a `Layer` is apart from what it computes: a node of a tree, with parameters and layers as attributes."""

    random_names: ClassVar[tuple[str, ...]] = ()  # attributes, whole numbers, that the next random mask follows from

    def __init__(self) -> None:
        self.input_shape: Shape | None = None  # without the batch; set by build
        self._store: ParameterStore | None = None
        self._moving: tuple[int, list[tuple[Layer, str]]] = (-1, [])  # see `state.moving`
        self._seen_changes = -1  # of the structure, when the parameters were last those of the store

    if not TYPE_CHECKING:  # to a type checker it would say that a layer has attributes of any name

        def __setattr__(self, name: str, value: Any) -> None:
            parts = (Module, Parameter)
            if isinstance(value, parts) or isinstance(vars(self).get(name), parts):
                structure.note_change()
            super().__setattr__(name, value)

    @property
    def operation(self) -> str:
        """Name of the layer in error messages."""
        return type(self).__name__

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        """Return what parameters the layer has for inputs of `input_shape` (without the batch), by name."""
        return {}

    def _buffer_specs(self, input_shape: Shape) -> dict[str, BufferSpec]:
        """Return what arrays of statistics the layer has, by name."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output for an input shape, both without the batch.

        Raises
        ------
        ShapeError, ArgumentError
            If the layer cannot take such an input.
        """
        return tuple(input_shape)

    # --- building ----------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self.input_shape is not None

    def build(self, input_shape: Shape, *, rng: int | np.random.Generator = 0) -> Self:
        """Make the parameters, on the selected backend and in its float type.

        Parameters
        ----------
        input_shape : tuple of int
            Without the batch: ``(C, H, W)`` for images.
        rng : int or numpy.random.Generator, default 0
            Seed of the initial weights and dropout masks; the same seed gives the same on every backend.

        Returns
        -------
        Layer
            The layer itself.

        Raises
        ------
        StateError
            If it has been built already.
        ShapeError, ArgumentError
            If the layers do not fit the input or each other.

        Examples
        --------
        >>> from xpnet.layers import Dense
        >>> Dense(10).build((4,), rng=1).W.shape
        (4, 10)
        """
        if self.built:
            raise StateError(
                self.operation,
                f"already built for input shape {self.input_shape}; make a new model to start afresh",
            )
        chosen = backend.get()
        if not isinstance(input_shape, Iterable):
            raise ShapeError(
                self.operation, f"input_shape must be sizes without the batch, such as (784,), got {input_shape!r}"
            )
        self._build_whole(tuple(input_shape), Maker(generator(rng), chosen.xp, chosen.device, chosen.dtype))
        return self

    def _build_for(self, x: Array) -> None:
        """Build where `x` is and of its type: what the first forward does if nobody has built."""
        maker = structure.current_maker()
        if maker is not None:
            self._build_tree(tuple(x.shape[1:]), maker)
            return
        xp = check_arrays(self.operation, x=x)  # weights of an integer type would all be zero
        if len(x.shape) < 2:
            raise ShapeError(self.operation, f"x must have at least 2 axes (N, ...), got shape {tuple(x.shape)}")
        self._build_whole(tuple(x.shape[1:]), Maker(generator(0), xp, backend.device_of(x), x.dtype))

    def _build_whole(self, input_shape: Shape, maker: Maker) -> None:
        whole = all(hasattr(n, "__index__") and not isinstance(n, bool) for n in input_shape)
        shape = tuple(int(n) for n in input_shape) if whole else ()
        if not shape or min(shape) < 1:
            raise ShapeError(
                self.operation, f"input_shape must be positive whole sizes without the batch, got {input_shape}"
            )
        self.output_shape(shape)  # the whole chain is checked before anything is made
        new = [layer for _, layer in self.named_layers() if not layer.built]
        try:
            self._build_tree(shape, maker)
        except BaseException:
            for layer in new:
                layer.input_shape = None  # so that it can be built once the mistake is mended
            raise
        self._adopt()

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        """Build this layer as part of a model; a layer used twice is built once."""
        if self.built:
            return
        for name, spec in self._parameter_specs(input_shape).items():
            setattr(self, name, maker.parameter(spec))
        for name, buffer in self._buffer_specs(input_shape).items():
            setattr(self, name, maker.buffer(buffer))
        self.input_shape = input_shape
        structure.note_change()

    def _adopt(self) -> None:
        """Name the parameters by their paths and gather them in flat buffers."""
        for name, p in self.named_parameters():
            p.name = name
        self._make_store()

    def _is_named(self) -> bool:
        """Whether all parameters have the names of their paths, in this model or in a larger one that it is part of."""
        return all(p.name == path or p.name.endswith(f".{path}") for path, p in self.named_parameters())

    def _make_store(self) -> None:
        self._store = ParameterStore(self.parameters())
        self._seen_changes = structure.changes()

    def _has_store(self) -> bool:
        """Whether there is a store, and it has the parameters that the model has now, in its own memory."""
        if self._store is None or not self._store.is_current():
            return False
        if self._seen_changes != structure.changes() and self._store.holds(self.parameters()):
            self._seen_changes = structure.changes()
        return self._seen_changes == structure.changes()

    @property
    def store(self) -> ParameterStore:
        """The flat buffers of weights and gradients.

        Raises
        ------
        StateError
            If the model has not been built.
        """
        if not self.built:
            raise StateError(
                self.operation,
                "the model has not been built, so it has no parameters yet; "
                "call model.build(input_shape) or run a forward first",
            )
        if not self._has_store():
            self._renew_store()
        assert self._store is not None
        return self._store

    def _renew_store(self) -> None:
        """Gather the parameters anew, under new names where layers were exchanged, or built later than the model."""
        if self._is_named() if self._store is None else self._store.holds(self.parameters()):
            self._make_store()
        else:
            self._adopt()

    # --- parameters, buffers, state ----------------------------------------------------------------

    def children(self) -> Mapping[str, Layer]:
        """Return the layers that this one is made of, by name."""
        return {name: cast("Layer", value) for name, value in vars(self).items() if isinstance(value, Module)}

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for this layer and all below it, each layer once."""
        seen: set[int] = set()
        stack: list[tuple[str, Layer]] = [(prefix, cast("Layer", self))]
        while stack:
            path, layer = stack.pop()
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            yield path, layer
            below = [(f"{path}.{name}" if path else name, child) for name, child in layer.children().items()]
            stack.extend(reversed(below))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), such as ``("features.0.W", ...)``, each parameter once."""
        seen: set[int] = set()
        for path, layer in self.named_layers():
            for name, value in vars(layer).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def parameters(self) -> list[Parameter]:
        """Return all parameters, in the order of `named_parameters`."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Layer, str]]:
        """Yield (path, layer, attribute) of each array of statistics."""
        for path, layer in self.named_layers():
            if layer.input_shape is not None:
                for name in layer._buffer_specs(layer.input_shape):
                    yield (f"{path}.{name}" if path else name), layer, name

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        self._require_built("zero_grad")
        if self._has_store():
            self._store.zero_grad()  # type: ignore[union-attr]
        else:  # part of a larger model, in whose buffers the parameters lie
            for p in self.parameters():
                p.grad[...] = 0.0

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers by path, on the model's own backend."""
        self._require_built("state_dict")
        return state.copy_state(self)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Take over parameters and buffers, from any backend and of any float type.

        Parameters
        ----------
        arrays : mapping of str to array
            As from `state_dict`.

        Raises
        ------
        WeightsError
            If names or shapes do not match or a value is no real number; the model is not changed.
        StateError
            If the model has not been built.
        """
        self._require_built("load_state_dict")
        state.load_state(self, arrays)

    def random_state(self) -> dict[str, int]:
        """Return what the next random masks of all layers follow from: seeds and counts, by path."""
        return state.copy_random_state(self)

    def load_random_state(self, numbers: Mapping[str, int]) -> None:
        """Take over what `random_state` returned, so that the same masks follow.

        Raises
        ------
        WeightsError
            If it belongs to another model; nothing is changed.
        """
        state.load_random_state(self, numbers)

    def to(self, name: str, *, dtype: str | None = None) -> Self:
        """Move parameters and buffers to another backend, device or float type.

        An optimizer that has already updated this model keeps its state where it was and will refuse
        to go on; make a new one after moving.

        Parameters
        ----------
        name : str
            As for `xpnet.backend.use`.
        dtype : str, optional
            By default the float type the model has now.

        Returns
        -------
        Layer
            The layer itself.

        Raises
        ------
        BackendUnavailableError
            If the backend cannot be used; the model stays where it is.
        """
        self._require_built("to")
        state.move(self, name, dtype)
        return self

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise StateError(
                self.operation,
                f"{what} needs parameters; call model.build(input_shape) or run a forward first",
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along.

        Not the flat buffers, whose views it would tear apart, nor what was noted at a count of changes, which in
        another process says something else.
        """
        return vars(self) | {"_store": None, "_moving": (-1, []), "_seen_changes": -1}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> dict[str, Any]:
        """Return the settings that `repr` shows."""
        return {}
