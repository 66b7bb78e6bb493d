"""Keeping what the layers of a model return in one run, and comparing with it what they return in another."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.layers.base import Layer
from xpnet.layers.containers import Sequential
from xpnet.layers.observe import Observer
from xpnet.layers.parameter import Parameter
from xpnet.testing import TOLERANCES


class Result(NamedTuple):
    """A result of the reference: what it is, what its errors are relative to, and how large they may be."""

    values: np.ndarray
    scale: float
    allowed: float


Key = tuple[str, str, str, str, int]  # layer, kind, when, what, and how many of that name came before


class Recorder(Observer):
    """Keeps what the layers return; with the results of a reference, compares with those instead."""

    def __init__(self, tolerance: float | None, reference: dict[Key, Result] | None, isolate: bool) -> None:
        self.tolerance, self.reference, self.isolate = tolerance, reference, isolate
        self.results: dict[Key, Result] = {}
        self.errors: dict[Key, float] = {}
        self._seen: Counter[tuple[str, str, str, str]] = Counter()
        self._paths: dict[int, str] = {}
        self._smallest = 0.0  # numbers below it lose digits
        self._inputs: dict[int, list[tuple[Array, Array]]] = {}  # x and y of forwards whose backward is to come

    def start(self, model: Layer, chosen: backend.Backend) -> None:
        """Get to know the model that is to run, and the float type it runs in."""
        self._paths = {id(layer): path for path, layer in model.named_layers()}
        self._smallest = float(backend.finfo(chosen.xp, chosen.dtype).smallest_normal)
        if self.tolerance is None:
            self.tolerance = TOLERANCES[backend.dtype_name(chosen.dtype)]

    @property
    def parted(self) -> bool:
        """Whether any result so far is not within what is allowed."""
        return any(not error <= self.reference[key].allowed for key, error in self.errors.items() if self.reference)

    def after_forward(self, layer: Layer, x: Array, y: Array) -> Array:
        if _only_passes_on(layer):
            return y
        self._inputs.setdefault(id(layer), []).append((x, y))
        path, kind = self._name(layer)
        for name in layer._buffer_specs(layer.input_shape or ()):
            self.note(
                (path, kind, "forward", name), getattr(layer, name), terms=y.shape[0], floor=largest(x), replace=False
            )
        return self.note((path, kind, "forward", "y"), y, terms=_terms(layer, x, y, y))

    def after_backward(self, layer: Layer, dy: Array, dx: Array | None) -> Array | None:
        if _only_passes_on(layer):
            return dx
        path, kind = self._name(layer)
        x, y = self._inputs[id(layer)].pop()
        floor = largest(dy)  # what is small beside dy is the rounding of sums that cancel
        for name, p in vars(layer).items():
            if isinstance(p, Parameter):
                key, terms = (path, kind, "backward", f"d{name}"), _parameter_terms(layer, x, y, p)
                self.note(key, p.grad, terms=terms, floor=floor * max(1.0, largest(x)), replace=False)
        if dx is None:
            return None
        return self.note((path, kind, "backward", "dx"), dx, terms=_terms(layer, x, y, x), floor=floor)

    def note(
        self, name: tuple[str, str, str, str], a: Array, *, terms: float = 1, floor: float = 0.0, replace: bool = True
    ) -> Array:
        """Keep a result or compare it; return what the model is to go on with."""
        key = (*name, self._seen[name])
        self._seen[name] += 1
        values = np.array(backend.to_numpy(a))
        if self.reference is None:
            allowed = float(self.tolerance or 0.0) * math.sqrt(max(1.0, terms))
            self.results[key] = Result(values, max(largest(values), floor, self._smallest), allowed)
            return a
        expected = self.reference.get(key)
        if expected is None:  # an own path through the model; the reference's then shows as not computed
            return a
        if expected.values.shape != values.shape:
            self.errors[key] = math.inf
            return a
        self.errors[key] = _error(values, expected)
        return backend.asarray_like(expected.values, a) if self.isolate and replace else a

    def _name(self, layer: Layer) -> tuple[str, str]:
        kind = type(layer).__name__
        return self._paths.get(id(layer)) or kind, kind


def _only_passes_on(layer: Layer) -> bool:
    """Tell whether a layer computes nothing itself: its results are those of its layers."""
    return type(layer)._forward is Sequential._forward and type(layer)._backward is Sequential._backward


def _size(a: Array) -> int:
    return max(1, math.prod(a.shape))


def _terms(layer: Layer, x: Array, y: Array, result: Array) -> float:
    """Return how many terms are summed up in one element of `result`, which is y or of the shape of x."""
    products = x.shape[0] * layer._multiply_adds(tuple(x.shape[1:]), tuple(y.shape[1:]))
    if products:
        return products / _size(result)
    per_channel = [_size(y) / p.size for p in vars(layer).values() if isinstance(p, Parameter)]  # statistics
    return max([_size(x) / _size(y), _size(y) / _size(x), *per_channel])


def _parameter_terms(layer: Layer, x: Array, y: Array, p: Parameter) -> float:
    products = x.shape[0] * layer._multiply_adds(tuple(x.shape[1:]), tuple(y.shape[1:]))
    return (products if p.unit_axis is not None and products else _size(y)) / max(1, p.size)


def largest(a: Array) -> float:
    """Return the largest finite absolute value."""
    values = np.abs(backend.to_numpy(a).astype(np.float64))
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def _error(values: np.ndarray, expected: Result) -> float:
    got, want = values.astype(np.float64), expected.values.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    if same.all():
        return 0.0
    if not (np.isfinite(got) & np.isfinite(want) | same).all():
        return math.inf
    distance = np.max(np.abs(got - want), where=~same, initial=0.0)
    return float(distance / expected.scale)
