"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xpnet import backend
from xpnet.backend import Array
from xpnet.errors import ArgumentError, StateError, WeightsError
from xpnet.functional.checks import is_number
from xpnet.layers.base import Layer
from xpnet.layers.parameter import ParameterStore
from xpnet.optim.base import layout

__all__ = ["EMA"]


class EMA:
    """Exponential moving average of the weights and statistics of a model: ``a += (1 - decay) * (w - a)``.

    The average often generalises better than the last weights. Call `update` after every step of the
    optimizer, and evaluate inside ``with ema.applied():``. The average starts at the weights as they are;
    it is held in at least float32, since half types would lose the small steps.

    Parameters
    ----------
    model : Layer
        Built. Running statistics (of batch normalisation) are averaged too.
    decay : float, 0 <= decay < 1, default 0.999

    Attributes
    ----------
    updates : int
        Calls of `update` so far.

    Raises
    ------
    ValueError
        If model is no layer, or decay is out of range.
    StateError
        If the model has not been built.

    References
    ----------
    Polyak and Juditsky (1992); Tarvainen and Valpola, arXiv:1703.01780.

    Examples
    --------
    >>> from xpnet.layers import Dense
    >>> from xpnet.optim import EMA
    >>> model = Dense(1, init="zeros").build((1,))
    >>> ema = EMA(model, decay=0.75)
    >>> model.W.data[...] = 1.0
    >>> ema.update()
    >>> with ema.applied():
    ...     float(model.W.data[0, 0])
    0.25
    >>> float(model.W.data[0, 0])
    1.0
    """

    def __init__(self, model: Layer, decay: float = 0.999) -> None:
        if not isinstance(model, Layer):
            raise ArgumentError("EMA", f"model must be a layer, built, got {model!r} ({type(model).__name__})")
        if not is_number(decay) or not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA: decay must be at least 0 and below 1, got {decay!r}")
        self.model, self.decay, self.updates = model, float(decay), 0
        self._store: ParameterStore = model.store
        self._weights = [_wide_copy(segment.data) for segment in self._store.segments]
        self._buffers = {path: _wide_copy(getattr(layer, name)) for path, layer, name in model.named_buffers()}
        self._applied = False

    def update(self) -> None:
        """Move the average towards the weights the model has now.

        Raises
        ------
        StateError
            Inside ``applied()``, or if the model has been moved to another backend since.
        """
        store = self._check("update")
        self.updates += 1
        for average, segment in zip(self._weights, store.segments, strict=True):
            self._approach(average, segment.data)
        for path, layer, name in self.model.named_buffers():
            self._approach(self._buffers[path], getattr(layer, name))

    def _approach(self, average: Array, now: Array) -> None:
        xp = backend.array_namespace(average)
        average += (1.0 - self.decay) * (xp.astype(now, average.dtype, copy=False) - average)

    @contextmanager
    def applied(self) -> Iterator[Layer]:
        """Give the model the averaged weights and statistics inside a with block, and its own back after it.

        They come back whatever happens in the block, an exception included; what the block does to the
        weights is lost.

        Yields
        ------
        model : Layer

        Raises
        ------
        StateError
            Inside another ``applied()``, or if the model has been moved to another backend since.
        """
        self._check("applied")
        averaged = self.weights()
        parameters, buffers = list(self.model.named_parameters()), list(self.model.named_buffers())
        weights = [_copy(p.data) for _, p in parameters]
        statistics = [_copy(getattr(layer, name)) for _, layer, name in buffers]
        try:
            self._applied = True
            for path, p in parameters:
                p.data[...] = _as_type_of(p.data, averaged[path])
            for path, layer, name in buffers:
                setattr(layer, name, averaged[path])
            yield self.model
        finally:
            for (_, p), own in zip(parameters, weights, strict=True):
                p.data[...] = own
            for (_, layer, name), own in zip(buffers, statistics, strict=True):
                setattr(layer, name, own)
            self._applied = False

    def weights(self) -> dict[str, Array]:
        """Return copies of the averages by path, as `Layer.load_state_dict` takes them."""
        found = {}
        for average, segment in zip(self._weights, self._store.segments, strict=True):
            for p, view in zip(segment.parameters, segment.views(average), strict=True):
                found[id(p)] = _copy(view)
        named = {path: found[id(p)] for path, p in self.model.named_parameters()}
        return named | {path: _copy(a) for path, a in self._buffers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state: ``updates`` and the averages by path."""
        return {"updates": self.updates, **self.weights()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, from any backend; the model is not changed.

        Raises
        ------
        WeightsError
            If names or shapes do not fit; the average is not changed.
        """
        self._check("load_state_dict")
        mine = self.weights()
        given = {name: value for name, value in state.items() if name != "updates"}
        if "updates" not in state or set(given) != set(mine):
            differing = sorted((set(mine) | {"updates"}) ^ set(state))
            raise WeightsError(f"EMA: the state does not fit the model: {', '.join(differing)} missing or too many")
        for path, value in given.items():
            if tuple(value.shape) != tuple(mine[path].shape):
                raise WeightsError(
                    f"EMA: {path} has shape {tuple(value.shape)} but {tuple(mine[path].shape)} is expected"
                )
        taken = {path: backend.asarray_like(value, mine[path]) for path, value in given.items()}
        names = {id(p): path for path, p in self.model.named_parameters()}
        for average, segment in zip(self._weights, self._store.segments, strict=True):
            average[...] = segment.gathered([taken[names[id(p)]] for p in segment.parameters], average)
        for path, average in self._buffers.items():
            average[...] = taken[path]
        self.updates = int(state["updates"])

    def _check(self, what: str) -> ParameterStore:
        if self._applied:
            raise StateError("EMA", f"{what} inside applied(): the model holds the averaged weights there")
        store = self.model.store
        if store is not self._store and layout(store) != layout(self._store):
            raise StateError("EMA", "the model has been moved since the average was begun; make a new EMA")
        self._store = store
        return store

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay}, updates={self.updates})"


def _copy(x: Array) -> Array:
    return backend.array_namespace(x).asarray(x, copy=True)


def _as_type_of(x: Array, values: Array) -> Array:
    return backend.array_namespace(x).astype(values, x.dtype, copy=False)


def _wide_copy(x: Array) -> Array:
    xp = backend.array_namespace(x)
    return xp.astype(x, backend.wide_dtype(xp, x.dtype), copy=True)
