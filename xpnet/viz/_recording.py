"""An inference forward through a model that remembers every output, and the way back through it.

A layer keeps what backward needs in training mode only, where batch statistics and dropout would change the
very thing to be looked at. So the containers are walked here, the layers run in inference mode, and their
contexts stay outside of the model.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

from xpnet.backend import Array, array_namespace, asarray_like, device_of
from xpnet.errors import ArgumentError, OperationError, ShapeError
from xpnet.functional.checks import check_arrays
from xpnet.layers import Layer, Sequential
from xpnet.layers.branches import Branches
from xpnet.text import no_such


def joined(path: str, name: str) -> str:
    """Return the path of a child."""
    return f"{path}.{name}" if path else name


def is_chain(layer: Layer) -> bool:
    """Tell whether a layer is its children one after another, not a subclass with a forward of its own."""
    return isinstance(layer, Sequential) and type(layer)._forward is Sequential._forward


def is_branching(layer: Layer) -> bool:
    """Tell whether a layer is its children side by side, and merges what they give."""
    return isinstance(layer, Branches) and type(layer)._forward is Branches._forward


class Recording:
    """One forward of a model for inference.

    Attributes
    ----------
    y : array
        The output of the model.
    outputs : dict of str to array
        The output of every layer by its path; that of the model itself as ``""``.
    gradients : dict of str to array
        After `backward`, the gradient with respect to each output that it passed.
    """

    def __init__(self, operation: str, model: Layer, x: Array) -> None:
        self.operation, self._model = operation, model
        self.outputs: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.y, self._ctx = self._forward(model, "", x)

    def _forward(self, layer: Layer, path: str, x: Array) -> tuple[Array, Any]:
        ctx: Any
        if is_chain(layer):
            ctx = []
            for name, child in layer.children().items():
                x, kept = self._child(name, child, path, x)
                ctx.append(kept)
            y = x
        elif is_branching(layer):
            runs = [self._child(name, child, path, x) for name, child in layer.children().items()]
            y, merged = layer._merge([output for output, _ in runs])  # type: ignore[attr-defined]
            ctx = (merged, [kept for _, kept in runs])
        else:
            y, ctx = layer._forward(x, False)
        self.outputs[path] = y
        return y, ctx

    def _child(self, name: str, child: Layer, path: str, x: Array) -> tuple[Array, Any]:
        try:
            return self._forward(child, joined(path, name), x)
        except OperationError as error:
            raise error.add_layer(name) from None

    def backward(self, dy: Array) -> Array:
        """Return the gradient of the model's input; the gradients of its parameters stay as they are."""
        with own_gradients(self._model):
            return self._backward(self._model, "", dy, self._ctx)

    def _backward(self, layer: Layer, path: str, dy: Array, ctx: Any) -> Array:
        self.gradients[path] = dy
        children = list(layer.children().items())
        if is_chain(layer):
            for (name, child), kept in zip(reversed(children), reversed(ctx), strict=True):
                dy = self._backward(child, joined(path, name), dy, kept)
            return dy
        if is_branching(layer):
            merged, contexts = ctx
            dx: Any = None
            for (name, child), part, kept in zip(children, layer._split(dy, merged), contexts, strict=True):  # type: ignore[attr-defined]
                through = self._backward(child, joined(path, name), part, kept)
                dx = through if dx is None else dx + through
            return dx
        if children:
            raise ArgumentError(
                self.operation,
                f"no gradient is known through {path or 'the model'}, a {type(layer).__name__} with a forward of its "
                "own around other layers; make it of Sequential, Residual, Add, Multiply and Parallel",
            )
        dx = layer._backward(dy, ctx, True)
        return dx


@contextlib.contextmanager
def own_gradients(model: Layer) -> Iterator[None]:
    """Let the parameters collect gradients aside, and put their own back at the end."""
    own = [(p, p.grad) for p in model.parameters()]
    try:
        for p, grad in own:
            p.grad = array_namespace(grad).zeros_like(grad)
        yield
    finally:
        for p, grad in own:
            p.grad = grad


def on_model(operation: str, model: Layer, x: Array, name: str = "x") -> Array:
    """Return `x` where the weights of a built model are and in their type.

    Raises
    ------
    StateError
        If the model has not been built.
    DTypeError
        If `x` is no array, or one of integers: dividing by 255 is for whoever knows what the model has learnt from.
    """
    model._require_built(operation)
    xp = check_arrays(operation, **{name: x})
    parameters = model.parameters()
    if not parameters:
        return x
    like = parameters[0].data
    there = array_namespace(like) is xp and like.dtype == x.dtype and device_of(like) == device_of(x)
    return x if there else asarray_like(x, like)


def one_image(operation: str, model: Layer, image: Array) -> Array:
    """Return a batch of one image for the model."""
    x = on_model(operation, model, image, "image")
    if len(x.shape) != 3:
        raise ShapeError(operation, f"image must be one image with 3 axes, without the batch, got shape {x.shape}")
    return x[None, ...]


def find_layer(operation: str, model: Layer, path: Any) -> Layer:
    """Return the layer at a path, ``""`` being the model.

    Raises
    ------
    ArgumentError
        If there is none; the message lists the paths there are.
    """
    layer = model
    for name in path.split(".") if isinstance(path, str) and path else []:
        if name not in layer.children():
            raise unknown_path(operation, model, path)
        layer = layer.children()[name]
    if not isinstance(path, str):
        raise unknown_path(operation, model, path)
    return layer


def unknown_path(operation: str, model: Layer, path: Any) -> ArgumentError:
    """Return the error for a path that is none."""
    paths = [p for p, _ in model.named_layers() if p]
    return ArgumentError(operation, no_such("layer", path, paths, of=f"the {type(model).__name__}"))


def up_to(operation: str, model: Layer, path: str) -> Layer:
    """Return the part of a built model that computes the output at `path`, of the model's own layers."""
    find_layer(operation, model, path)
    return _part(operation, model, path.split(".") if path else [])


def _part(operation: str, layer: Layer, names: list[str]) -> Layer:
    if not names:
        return layer
    child = layer.children()[names[0]]
    inner = _part(operation, child, names[1:])
    if is_branching(layer):
        return inner
    if not is_chain(layer):
        raise ArgumentError(
            operation, f"cannot stop inside of a {type(layer).__name__}; give the path of the whole layer"
        )
    before: dict[str, Layer] = {}
    for name, other in layer.children().items():
        if name == names[0]:
            break
        before[name] = other
    part = Sequential({**before, names[0]: inner})
    part.input_shape = layer.input_shape
    return part


def image_format(model: Layer) -> str:
    """Return how a model indexes images: as the first of its layers that says so."""
    formats = (getattr(layer, "data_format", None) for _, layer in model.named_layers())
    return next((f for f in formats if f), "NCHW")


def class_numbers(operation: str, t: Any, y: Array) -> list[int]:
    """Return one class for each row of the scores `y` (N, K): those given, or where t is None the highest scores."""
    xp = array_namespace(y)
    if len(y.shape) != 2:
        raise ShapeError(operation, f"the model must give class scores (N, K), but gives {tuple(y.shape)}")
    N, K = y.shape
    if t is None:
        t = xp.argmax(y, axis=1)
    elif hasattr(t, "__index__") and not getattr(t, "shape", ()):
        t = [operator.index(t)]
    elif len(getattr(t, "shape", ())) == 2:
        t = array_namespace(t).argmax(t, axis=1)  # one-hot
    try:
        classes = [operator.index(c) for c in t]
    except TypeError:
        raise ArgumentError(operation, f"t must be class numbers (integers or one-hot rows), got {t!r}") from None
    if len(classes) != N or not all(0 <= c < K for c in classes):
        raise ArgumentError(
            operation, f"t must be {N} class numbers from 0 to {K - 1}, one for each image, got {classes[:10]}"
        )
    return classes
