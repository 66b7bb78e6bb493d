"""Copying, loading and moving the parameters and buffers of a model: all checked before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xpnet import backend
from xpnet.backend import Array
from xpnet.errors import WeightsError
from xpnet.layers import structure

if TYPE_CHECKING:
    from xpnet.layers.module import Module

__all__ = ["copy_random_state", "copy_state", "load_random_state", "load_state", "move", "moving"]

UNCHANGED = "The model has not been changed."


def _live(model: Module) -> dict[str, Array]:
    arrays = {path: p.data for path, p in model.named_parameters()}
    return arrays | {path: getattr(layer, name) for path, layer, name in model.named_buffers()}


def copy_state(model: Module) -> dict[str, Array]:
    """Return copies of all parameters and buffers by path."""
    return {path: backend.array_namespace(a).asarray(a, copy=True) for path, a in _live(model).items()}


def load_state(model: Module, arrays: Mapping[str, Any]) -> None:
    """Take over parameters and buffers from arrays of any library and float type."""
    expected = _live(model)
    if not isinstance(arrays, Mapping):
        raise WeightsError(f"expected a mapping of names to arrays, got {type(arrays).__name__}. {UNCHANGED}")
    _check_names(set(expected), set(arrays))
    hosts = {path: _real(path, arrays[path]) for path in expected}
    _check_shapes(expected, hosts)
    checked = {path: backend.asarray_like(hosts[path], like) for path, like in expected.items()}
    for path, p in model.named_parameters():
        p.data[...] = checked[path]
    for path, layer, name in model.named_buffers():
        setattr(layer, name, checked[path])


def copy_random_state(model: Module) -> dict[str, int]:
    """Return the numbers that the next random masks follow from, by path."""
    return {
        (f"{path}.{name}" if path else name): getattr(layer, name)
        for path, layer in model.named_layers()
        for name in layer.random_names
    }


def load_random_state(model: Module, numbers: Mapping[str, int]) -> None:
    """Take over what `copy_random_state` returned."""
    _check_names(set(copy_random_state(model)), set(numbers))
    for path, number in numbers.items():
        if type(number) is not int or not 0 <= number < 2**64:
            raise WeightsError(f"{path} must be a whole number from 0 to 2**64 - 1, got {number!r}. {UNCHANGED}")
    for path, layer in model.named_layers():
        for name in layer.random_names:
            setattr(layer, name, numbers[f"{path}.{name}" if path else name])


def moving(model: Module) -> Callable[[], None]:
    """Note what a training forward changes, statistics and counts of random masks; return what puts it back."""
    seen, places = model._moving
    if seen != structure.changes():
        places = [(layer, name) for _, layer, name in model.named_buffers()]
        places += [(layer, name) for _, layer in model.named_layers() for name in layer.random_names]
        model._moving = structure.changes(), places
    values = [getattr(layer, name) for layer, name in places]

    def put_back() -> None:
        for (layer, name), value in zip(places, values, strict=True):
            setattr(layer, name, value)

    return put_back


def _check_names(expected: set[str], given: set[str]) -> None:
    def some(names: set[str]) -> str:
        return ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")

    parts = []
    if expected - given:
        parts.append(f"missing {some(expected - given)}")
    if given - expected:
        parts.append(f"not in the model {some(given - expected)}")
    if parts:
        raise WeightsError(
            f"the weights do not fit the model: {'; '.join(parts)} ({len(expected)} arrays expected, "
            f"{len(given)} given); build the same model as was saved. {UNCHANGED}"
        )


def _real(path: str, value: Any) -> Any:
    """Return `value` as a NumPy array of real numbers."""
    host = backend.to_numpy(value)
    if host.dtype.kind not in "fiu":
        raise WeightsError(f"{path} holds {host.dtype}, not real numbers. {UNCHANGED}")
    return host


def _check_shapes(expected: Mapping[str, Array], given: Mapping[str, Any]) -> None:
    wrong = [
        f"{path} has shape {tuple(given[path].shape)} but the model's has {tuple(like.shape)}"
        for path, like in expected.items()
        if tuple(given[path].shape) != tuple(like.shape)
    ]
    if wrong:
        raise WeightsError(
            f"{', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}; {len(expected) - len(wrong)} of "
            f"{len(expected)} arrays fit. Build the same model, for the same input shape and classes, as was saved, or "
            f"save weights that have the model's own values there. {UNCHANGED}"
        )


def move(model: Module, name: str, dtype: str | None) -> None:
    """Move a built model to another backend, device or float type."""
    parameters = model.parameters()
    if dtype is None and parameters:
        dtype = backend.dtype_name(parameters[0].data.dtype)
    with backend.using(name, dtype=dtype) as chosen:
        wide = backend.wide_dtype(chosen.xp, chosen.dtype)
        moved = [backend.asarray(backend.to_numpy(p.data), dtype=chosen.dtype, copy=True) for p in parameters]
        buffers = [
            (layer, own, backend.asarray(backend.to_numpy(getattr(layer, own)), dtype=wide, copy=True))
            for _, layer, own in model.named_buffers()
        ]
    for _, layer in model.named_layers():
        layer._pending.clear()
        layer._store = None
    for p, data in zip(parameters, moved, strict=True):
        p.place(data)
    for layer, own, array in buffers:
        setattr(layer, own, array)
    model._renew_store()
