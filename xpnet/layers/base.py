"""The layer: a forward and a backward, and what is kept in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from xpnet import config
from xpnet.backend import Array
from xpnet.errors import ArgumentError, NonFiniteError, StateError
from xpnet.functional.checks import describe_non_finite
from xpnet.layers import structure
from xpnet.layers.module import Module, Shape
from xpnet.layers.observe import current_observer
from xpnet.layers.parameter import Maker, Parameter
from xpnet.layers.shortage import describe, lack_of_memory
from xpnet.layers.summary import Keeps, Summary, Tensor, Trace, summarize

__all__ = ["Layer", "Shape"]

_serials = itertools.count()  # tells what was kept during a forward from what was kept before it
MAX_PENDING = 256  # forwards in training mode without a backward; more is a leak, not a network


class Layer(Module):
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

    def __init__(self) -> None:
        super().__init__()
        # contexts of forwards whose backward is still to come, each with the serial of when its forward began
        self._pending: list[tuple[int, Any]] = []

    # --- what a subclass gives ---------------------------------------------------------------------

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _forward(x, train) -> (y, ctx)")

    def _ends_in_relu(self) -> bool:
        """Whether `_forward` takes ``activation="relu"``, that of a layer after it; see `xpnet.layers.fusion`.

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

    def _build_tree(self, input_shape: Shape, maker: Maker) -> None:
        if self.built:
            return
        super()._build_tree(input_shape, maker)
        if not all(child.built for child in self.children().values()):
            with structure.building(maker):
                self._forward(maker.zeros((1, *input_shape)), False)

    # --- forward and backward ----------------------------------------------------------------------

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
            lack = lack_of_memory(error, self.operation, f"forward of x {describe(x)}")
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
        return self._go_back(dy, need_dx)

    def _go_back(self, dy: Array, need_dx: bool, overwrite: bool = False) -> Array | None:
        """Do the work of `backward`; `overwrite` is for layers whose `_backward` takes it."""
        if not self._pending:
            raise StateError(
                self.operation,
                "backward without a forward in training mode; call forward(x, train=True) first, "
                "once for each backward",
            )
        backward: Any = self._backward
        try:
            # handed over, so that a layer which deletes its context before it is done frees that memory; no **settings,
            # which would hold it too
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
        """Return what a copy takes along."""
        return super().__getstate__() | {"_pending": []}
