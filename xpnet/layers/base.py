"""The layer: parameters, a forward and a backward, and what every layer and model can do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from xpnet import backend, config
from xpnet.backend import Array
from xpnet.errors import ArgumentError, NonFiniteError, ShapeError, StateError
from xpnet.functional.checks import check_arrays, describe_non_finite
from xpnet.layers import state, structure
from xpnet.layers.observe import current_observer
from xpnet.layers.parameter import BufferSpec, Maker, Parameter, ParameterSpec, ParameterStore
from xpnet.layers.shortage import describe, lack_of_memory
from xpnet.layers.summary import Keeps, Summary, Tensor, Trace, summarize
from xpnet.random import generator

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Layer", "Shape"]

Shape = tuple[int, ...]

_serials = itertools.count()  # tells what was kept during a forward from what was kept before it
MAX_PENDING = 256  # forwards in training mode without a backward; more is a leak, not a network


class Layer:
    """Base of all layers and models.

    A subclass gives `output_shape`, `_forward` and `_backward`, and `_parameter_specs` if it has
    parameters. Attributes that are `Parameter` are found as its parameters, attributes that are `Layer`
    as its children, and the arrays named by `_buffer_specs` as its buffers. Children are built by a forward of
    zeros, since the layer alone knows what each of them is given.

    ::

        y = layer.forward(x, train=True)    # keeps what backward needs only when train is true
        dx = layer.backward(dy)             # uses and drops it, adds to the gradients of the parameters

    ``layer(x)`` and ``layer.predict(x)`` are inference: ``forward(x, train=False)``.
    """

    random_names: ClassVar[tuple[str, ...]] = ()  # attributes, whole numbers, that the next random mask follows from

    def __init__(self) -> None:
        self.input_shape: Shape | None = None  # without the batch; set by build
        # contexts of forwards whose backward is still to come, each with the serial of when its forward began
        self._pending: list[tuple[int, Any]] = []
        self._store: ParameterStore | None = None
        self._moving: tuple[int, list[tuple[Layer, str]]] = (-1, [])  # see `state.moving`
        self._seen_changes = -1  # of the structure, when the parameters were last those of the store

    if not TYPE_CHECKING:  # to a type checker it would say that a layer has attributes of any name

        def __setattr__(self, name: str, value: Any) -> None:
            parts = (Layer, Parameter)
            if isinstance(value, parts) or isinstance(vars(self).get(name), parts):
                structure.note_change()
            super().__setattr__(name, value)

    # --- what a subclass gives ---------------------------------------------------------------------

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

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _forward(x, train) -> (y, ctx)")

    def _forward_relu(self, x: Array, train: bool) -> tuple[Array, Any]:
        """Return what `_forward` does and the relu after it, if `_ends_in_relu` says that the layer can."""
        raise NotImplementedError(f"{type(self).__name__} must define _forward_relu(x, train) -> (y, ctx)")

    def _ends_in_relu(self) -> bool:
        """Whether the layer can do the relu of a layer after it with its own work; see `xpnet.layers.fusion`.

        A class answers for itself alone: one that inherits from it may work in another way.
        """
        return False

    def _overwrites_dy(self) -> bool:
        """Whether `_backward` takes ``overwrite=True`` with a dy that nobody else holds; see `xpnet.layers.fusion`."""
        return False

    def _dx_is_new(self, dy_was_new: bool) -> bool:
        """Whether nobody else holds what backward has returned; here of layers made of layers alone."""
        return False

    def _output_is_new(self) -> bool:
        """Whether nobody holds what forward has returned, the layer neither; here of layers made of layers alone."""
        return False

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        raise NotImplementedError(f"{type(self).__name__} must define _backward(dy, ctx, need_dx) -> dx")

    def _multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int:
        """Return the multiply-adds of one forward of one sample, for the summary."""
        return 0

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        """Return what a training forward keeps of one sample, for the summary."""
        return Keeps()

    # --- forward and backward ----------------------------------------------------------------------

    @property
    def operation(self) -> str:
        """Name of the layer in error messages."""
        return type(self).__name__

    def forward(self, x: Array, train: bool = True) -> Array:
        """Compute the output; with `train`, keep what `backward` will need.

        Parameters
        ----------
        x : array (N, ...)
        train : bool, default True
            True is half of a training step: batch statistics, dropout, contexts kept. For inference
            give False, or use `predict`.

        Returns
        -------
        y : array (N, ...)

        Raises
        ------
        OperationError
            If the layer cannot take `x`, or memory runs out; the message names the layer's path in the model.
        """
        return self._forward_by(self._forward, x, train)

    def _forward_by(self, forward: Callable[[Array, bool], tuple[Array, Any]], x: Array, train: bool) -> Array:
        """Do the work of `forward` with one of the layer's ways to go about it."""
        if self.input_shape is None:
            self._build_for(x)
        if train and getattr(x, "requires_grad", False):
            raise ArgumentError(
                self.operation,
                "x requires a gradient of torch's autograd, which xpnet's training does without; give x.detach()",
            )
        begun = next(_serials)
        try:
            y, ctx = forward(x, train)
        except BaseException as error:
            if train:
                self._drop_children_since(begun)
            full = isinstance(error, (MemoryError, RuntimeError))
            lack = lack_of_memory(error, self.operation, f"forward of x {describe(x)}") if full else None
            if lack is None:
                raise
            raise lack from None
        if train:
            self._keep(ctx, begun)
        guarded, observer = config.get("nan_guard"), current_observer()
        if guarded or observer is not None:
            try:
                if guarded:
                    self._guard("forward", {"the output": y})
                if observer is not None:
                    y = observer.after_forward(self, x, y)
            except BaseException:
                if train:
                    self.drop_pending()
                raise
        return y

    def _keep(self, ctx: Any, begun: int | None = None) -> None:
        """Keep the context of a training forward for its backward."""
        if len(self._pending) >= MAX_PENDING:
            raise StateError(
                self.operation,
                f"{MAX_PENDING} forwards in training mode without a backward keep their activations in memory; "
                "for inference call predict(x) or forward(x, train=False), or forget() to drop them",
            )
        self._pending.append((next(_serials) if begun is None else begun, ctx))

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """Add the gradients of the parameters and return the gradient of the input.

        Goes with the latest training forward that has had no backward yet.

        Parameters
        ----------
        dy : array, shape of the output
            Gradient of the loss with respect to the output; not changed.
        need_dx : bool, default True
            False leaves out what only the input's gradient needs; nobody needs that of a first layer.

        Returns
        -------
        dx : array, shape of the input; None with ``need_dx=False``

        Raises
        ------
        StateError
            If there was no such forward.
        """
        return self._backward_by(self._backward, dy, need_dx)

    def _backward_by(
        self, backward: Callable[..., Array | None], dy: Array, need_dx: bool, overwrite: bool = False
    ) -> Any:
        """Do the work of `backward` with one of the layer's ways to go about it."""
        if not self._pending:
            raise StateError(
                self.operation,
                "backward without a forward in training mode; call forward(x, train=True) first, "
                "once for each backward",
            )
        try:
            # handed over, so that a layer which deletes its context before it is done frees that memory
            if overwrite:
                dx = backward(dy, self._pending.pop()[1], need_dx, True)
            else:
                dx = backward(dy, self._pending.pop()[1], need_dx)
        except (MemoryError, RuntimeError) as error:
            lack = lack_of_memory(error, self.operation, f"backward of dy {describe(dy)}")
            if lack is None:
                raise
            raise lack from None
        if config.get("nan_guard"):
            own = {f"the gradient of {n}": p.grad for n, p in vars(self).items() if isinstance(p, Parameter)}
            self._guard("backward", {"the gradient of x": dx} | own)
        observer = current_observer()
        return dx if observer is None else observer.after_backward(self, dy, dx)

    def _guard(self, when: str, arrays: dict[str, Array | None]) -> None:
        """Refuse results that are not finite (the setting ``nan_guard``)."""
        for name, x in arrays.items():
            found = None if x is None else describe_non_finite(x)
            if found:
                raise NonFiniteError(
                    self.operation,
                    f"in {when}, {name} holds {found}; every layer {'before' if when == 'forward' else 'after'} "
                    "it was fine: check the input for NaN, the size of the weights and the learning rate",
                )

    def predict(self, x: Array) -> Array:
        """Compute the output for inference: ``forward(x, train=False)``."""
        return self.forward(x, train=False)

    __call__ = predict

    def drop_pending(self) -> None:
        """Drop what the latest training forward kept, as if its backward had run."""
        begun, _ = self._pending.pop()
        self._drop_children_since(begun)

    def _drop_children_since(self, begun: int) -> None:
        """Drop what forwards of the children that began after a serial have kept: none, one or several each."""
        for child in self.children().values():
            while child._pending and child._pending[-1][0] > begun:
                child.drop_pending()

    def forget(self) -> None:
        """Drop what all training forwards without a backward have kept."""
        self._pending.clear()
        for child in self.children().values():
            child.forget()

    # --- building ----------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self.input_shape is not None

    def build(self, input_shape: Shape, *, rng: int | np.random.Generator = 0) -> Layer:
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
        self._build_tree(shape, maker)
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
        if not all(child.built for child in self.children().values()):
            with structure.building(maker):
                self._forward(maker.zeros((1, *input_shape)), False)

    def _adopt(self) -> None:
        """Name the parameters by their paths and gather them in flat buffers."""
        for name, p in self.named_parameters():
            p.name = name
        self._make_store()

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
            if self._store is None or self._store.holds(self.parameters()):
                self._make_store()
            else:
                self._adopt()  # layers were exchanged, or built later than the model
        assert self._store is not None
        return self._store

    # --- parameters, buffers, state ----------------------------------------------------------------

    def children(self) -> Mapping[str, Layer]:
        """Return the layers that this one is made of, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Layer)}

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for this layer and all below it, each layer once."""
        seen: set[int] = set()
        stack: list[tuple[str, Layer]] = [(prefix, self)]
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

    def to(self, name: str, *, dtype: str | None = None) -> Layer:
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

    # --- description -------------------------------------------------------------------------------

    def summary(self, input_shape: Shape | None = None) -> Summary:
        """Describe the model layer by layer: output shape, parameters, memory, multiply-adds.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Without the batch; by default the one the model was built for.

        Returns
        -------
        Summary
            ``print`` it for a table; ``rows`` and the totals are there for programs.

        Raises
        ------
        StateError
            If the model has not been built and no input shape is given.
        """
        shape = input_shape if input_shape is not None else self.input_shape
        if shape is None:
            raise StateError(self.operation, "not built yet: give summary(input_shape), without the batch")
        return summarize(self, tuple(shape))

    def _trace(self, trace: Trace, path: str, x: Tensor) -> Tensor:
        """Add the rows of this layer to a summary and return its output; containers ask their children."""
        y_shape = self.output_shape(x.shape)
        y = trace.tensor(y_shape)
        trace.add(self, path, x, y)
        return y

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: not the flat buffers, whose views a copy would tear apart."""
        return vars(self) | {"_store": None, "_pending": []}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> dict[str, Any]:
        """Return the settings that `repr` shows."""
        return {}
