"""Neighbours of a chain that are run as one: the same results in fewer passes over memory.

- A layer and the relu after it, in training and inference: where the layer can end in relu itself, it does, and its
  backward does that of relu.
- In inference on the CPU, a convolution and the batch normalisation after it: with the running statistics this is a
  factor and a number for each filter, which go into the weights and the bias. Not where that would lose digits, since
  the means are far from 0; on a GPU the question would wait for it.

On the way back, a layer whose dy was made by the layer after it may write over it: nobody else holds that. On the CPU
a relu with a maximum pooling after it is gone back through behind the pooling, where there is less to do: the gradient
of a window passes where its maximum is above 0.

Observers and the setting ``nan_guard`` look at what each layer returns; while they do, each runs alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from xpnet.backend import Array, array_namespace, is_on_host
from xpnet.functional import conv2d_forward
from xpnet.kernels import find
from xpnet.kernels.agnostic.norm import Normalised
from xpnet.layers.activation import Activation, DoneBefore, Identity, ReLU, Sigmoid, Tanh
from xpnet.layers.base import Layer
from xpnet.layers.conv import Conv2D
from xpnet.layers.conv_transpose import ConvTranspose2D
from xpnet.layers.data_format import from_nchw, to_nchw
from xpnet.layers.linear import Dense, Flatten
from xpnet.layers.norm import BatchNorm
from xpnet.layers.observe import current_observer, is_looked_into
from xpnet.layers.pool import Pool2D
from xpnet.layers.separable import SeparableConv2D

__all__ = [
    "MOST",
    "backward_with",
    "foldable_pairs",
    "fused",
    "is_new",
    "output_is_new",
    "overwrites",
    "relu_behind_pooling",
    "weights_folded",
]

MOST = 3  # layers that are run as one
SMALL = 1 << 20  # weights of a convolution that are folded with all others beforehand

# what `_fold` has made of all pairs, during an inference
_folded: contextvars.ContextVar[dict[tuple[int, int], tuple[Array, Array] | None] | None] = contextvars.ContextVar(
    "folded", default=None
)


@contextlib.contextmanager
def weights_folded(pairs: Sequence[tuple[Layer, Layer]]) -> Iterator[None]:
    """Fold the small ones of `foldable_pairs` for one inference, all at once.

    One after another they take a fifth of the time: between two convolutions this code and its data are no longer in
    the processor's cache. Within such a context, as in the layers of a layer, there is nothing to do.
    """
    if _folded.get() is not None or is_looked_into():
        yield
        return
    small = [pair for pair in pairs if _may_be_one(*pair) and pair[0].W.size <= SMALL]  # type: ignore[attr-defined]
    token = _folded.set(_fold(small))
    try:
        yield
    finally:
        _folded.reset(token)


def foldable_pairs(model: Layer) -> list[tuple[Layer, Layer]]:
    """Return the convolutions of a model that have a batch normalisation right after them, with it."""
    found = []
    below = [model]
    while below:
        layer = below.pop()
        below.extend(layer.children().values())
        if isinstance(layer, Iterable):
            found += [pair for pair in itertools.pairwise(layer) if _are_conv_and_norm(*pair)]
    return found


def fused(layers: Sequence[Layer], train: bool) -> tuple[int, Callable[[Array], Array]]:
    """Return how many of `layers`, `MOST` or fewer, are run as one, and the function that does it."""
    first, *rest = layers
    if rest and not is_looked_into():
        if not train and _may_be_one(first, rest[0]):
            known, pair = _folded.get() or {}, (id(first), id(rest[0]))
            folded = known[pair] if pair in known else _fold([(first, rest[0])])[pair]
            if folded is not None:
                rectified = len(rest) > 1 and _is_relu(rest[1])
                return 2 + rectified, functools.partial(_convolve_normalised, first, *folded, rectified)
        if first._ends_in_relu() and _is_relu(rest[0]):
            return 2, functools.partial(_forward_relu, first, rest[0], train)
    return 1, functools.partial(first.forward, train=train)


# exact types: a class that a user derives runs as written
CONVOLUTIONS = frozenset({Conv2D, SeparableConv2D, ConvTranspose2D})
MAKING_NEW = CONVOLUTIONS | {BatchNorm, Pool2D, Dense}  # dx, held by nobody else
OVERWRITING = CONVOLUTIONS | {BatchNorm, Activation, ReLU, Sigmoid, Tanh}  # dy, if it is new
PASSING_ON = frozenset({Flatten, Activation, Identity, ReLU, Sigmoid, Tanh})  # dy or something new


def is_new(layer: Layer, dy_was_new: bool) -> bool:
    """Tell whether what a layer's backward has returned is an array that nobody else holds."""
    if current_observer() is not None:
        return False
    if type(layer) in MAKING_NEW:
        return True
    return dy_was_new if type(layer) in PASSING_ON else layer._dx_is_new(dy_was_new)


def output_is_new(layer: Any) -> bool:
    """Tell whether what a layer's forward has returned is an array that neither it nor anybody else keeps."""
    if current_observer() is not None:
        return False
    if type(layer) in (Conv2D, Dense):
        return layer.activation is None
    return type(layer) is BatchNorm or layer._output_is_new()


def overwrites(layer: Layer, following: Layer) -> bool:
    """Tell whether a layer's backward takes no memory beside the dy that the layer after it has made.

    That is so with batch normalisation, relu and sigmoid; for the gradients of other activations libraries make arrays
    on the way.
    """
    name = layer.name if isinstance(layer, Activation) else getattr(layer, "activation", None)
    in_place = type(layer) is BatchNorm or (name in ("relu", "sigmoid") and type(layer) in OVERWRITING)
    return in_place and type(following) in MAKING_NEW


def backward_with(layer: Any, dy_is_new: bool, dy: Array, need_dx: bool) -> Array | None:
    """Run a layer's backward, which may write over a dy that is new."""
    if dy_is_new and (type(layer) in OVERWRITING or layer._overwrites_dy()):
        return layer._go_back(dy, need_dx, True)
    return layer.backward(dy, need_dx=need_dx)


def relu_behind_pooling(before: Sequence[Layer], pool: Layer, dy: Array | None, dy_is_new: bool) -> tuple[Any, bool]:
    """Return dy and whether nobody else holds it, after the backward of the relu that a layer's input is made by.

    That can be done where the layer takes maxima and a convolution before it has ended in relu, which has none left to
    go back through then. Else dy is what it was.
    """
    if type(pool) is not Pool2D or pool.mode != "max" or not (before and pool._pending) or is_looked_into():
        return dy, dy_is_new
    conv = before[-2] if len(before) > 1 and _is_relu(before[-1]) else before[-1]
    ctx = pool._pending[-1][1]
    fits = dy is not None and tuple(dy.shape) == tuple(ctx.y.shape) and is_on_host(dy)
    if type(conv) is not Conv2D or not conv._has_rectified(ctx.x) or not fits:
        return dy, dy_is_new
    dy = find("relu_backward", array_namespace(dy))(dy, ctx.y, dy_is_new)
    conv._leave_relu()
    return dy, True


def _is_relu(layer: Layer) -> bool:
    return type(layer) in (Activation, ReLU) and layer.name == "relu"  # type: ignore[attr-defined]


def _forward_relu(layer: Any, relu: Layer, train: bool, x: Array) -> Array:
    """Run a layer that ends in the relu after it; that has nothing left to do, in backward too."""
    y = layer._forward_by(functools.partial(layer._forward, activation="relu"), x, train)
    if train:
        relu._keep(DoneBefore())
    return y


def _are_conv_and_norm(first: Layer, second: Layer) -> bool:
    return type(first) is Conv2D and type(second) is BatchNorm


def _may_be_one(conv: Any, norm: Any) -> bool:
    """Whether a layer is a batch normalisation that can go into the weights of the convolution before it."""
    if not _are_conv_and_norm(conv, norm) or not (conv.built and norm.built):
        return False
    if conv.activation is not None or conv.data_format != norm.data_format:
        return False
    # 16 bits: the statistics have 32
    return norm.running_mean.dtype == conv.W.data.dtype and is_on_host(norm.running_mean)


def _fold(pairs: Sequence[tuple[Any, Any]]) -> dict[tuple[int, int], tuple[Array, Array] | None]:
    """Return, by the ids of each pair, weights and bias of the convolution that does both; None would lose digits."""
    alike: dict[Any, list[tuple[Any, Any]]] = {}
    for pair in pairs:
        alike.setdefault(pair[0].W.data.dtype, []).append(pair)
    made: dict[tuple[int, int], tuple[Array, Array] | None] = {}
    for some in alike.values():
        fold = find("normalised_weights", array_namespace(some[0][0].W.data))
        ids = [(id(conv), id(norm)) for conv, norm in some]
        made |= zip(ids, fold([_numbers(*pair) for pair in some]), strict=True)
    return made


def _numbers(conv: Any, norm: Any) -> Normalised:
    gamma, beta = (norm.gamma.data, norm.beta.data) if norm.affine else (None, None)
    b = conv.b.data if conv.bias else None
    return Normalised(conv.W.data, b, gamma, beta, norm.running_mean, norm.running_var, norm.eps)


def _convolve_normalised(conv: Any, W: Array, b: Array, rectified: bool, x: Array) -> Array:
    """Return conv(x) for inference with the weights and bias given, and the relu of it."""

    def forward(x: Array, train: bool) -> tuple[Array, Any]:
        window = (conv.stride, conv.padding, conv.dilation, conv.groups)
        activation = "relu" if rectified else None
        image = to_nchw(x, conv.data_format)
        y, ctx = conv2d_forward(image, W, b, *window, algorithm=conv.algorithm, activation=activation)
        return from_nchw(y, conv.data_format), ctx

    return conv._forward_by(forward, x, False)
