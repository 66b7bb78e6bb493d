"""How many launches a training step takes on CuPy, counted without a GPU: nothing is computed, all arrays stay zero.

``python -m tests.kernels.counting_cupy`` prints them by layer, those of each operation, and what a trainer launches
beside the step. Counted are the kernels of this project, and of NumPy's operations each that is a launch on CuPy too: a
ufunc, a reduction, a product, a copy. CuPy may split a reduction in two, and cuBLAS a product, which is not seen here.
"""

from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import array_api_compat.numpy as xp
import numpy as np

from tests.kernels.emulated_cupy import CREATING, Emulator, standing_in
from tests.operations import CASES, Case
from xpnet.data import Loader
from xpnet.layers import Layer
from xpnet.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.models import LeNet, ResNet
from xpnet.optim import Momentum, Optimizer
from xpnet.training import train_step
from xpnet.training.evaluation import Means

launched: list[str] = []
FUNCTIONS = (np.argmax, np.concatenate, np.stack, np.take, np.where)  # that are a launch and no ufunc


class Counted(np.ndarray):
    """An array that notes what would be launched."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        launched.append("product" if ufunc is np.matmul else ufunc.__name__)
        given = [a.view(np.ndarray) if isinstance(a, Counted) else a for a in inputs]
        if out is not None:
            settings["out"] = tuple(a.view(np.ndarray) if isinstance(a, Counted) else a for a in out)
        with np.errstate(all="ignore"):  # of zeros
            result = getattr(ufunc, method)(*given, **settings)
        return out[0] if out is not None else np.asarray(result).view(Counted)

    def __array_function__(self, function, kinds, args, settings):
        if function in FUNCTIONS:
            launched.append(function.__name__)
        return super().__array_function__(function, kinds, args, settings)

    def reshape(self, *shape, **settings):
        result = super().reshape(*shape, **settings)
        if not np.may_share_memory(result, self):
            launched.append("copy")
        return result

    def astype(self, *args, **settings):
        result = super().astype(*args, **settings)
        if result is not self:
            launched.append("astype")
        return result

    def copy(self, *args, **settings):
        launched.append("copy")
        return super().copy(*args, **settings)

    def __setitem__(self, place, value):
        launched.append("copy" if isinstance(value, np.ndarray) else "fill")
        super().__setitem__(place, value)


def creator(name: str):
    """NumPy's function that makes an array, of zeros where it would be left as it is."""
    make = getattr(np, {"empty": "zeros", "empty_like": "zeros_like"}.get(name, name))

    def create(*args: Any, device: Any = None, copy: bool | None = None, **settings: Any) -> Counted:
        if name not in ("empty", "empty_like", "asarray"):
            launched.append("fill")
        made = make(*args, **settings)
        return (made.copy() if copy else made).view(Counted)

    return create


def contiguous(a, dtype=None):
    result = np.ascontiguousarray(a.view(np.ndarray), dtype=dtype)
    if not np.may_share_memory(result, a):
        launched.append("copy")
    return result.reshape(a.shape).view(Counted)


class Counter(Emulator):
    """Stands in for CuPy as the emulator does, but runs nothing."""

    def __init__(self) -> None:
        super().__init__(folder=None)

    def kernel(self, code, name, options=()):
        return lambda grid, block, arguments: launched.append(name)

    def modules(self) -> dict[str, types.ModuleType]:
        modules = super().modules()
        for name in CREATING:
            setattr(modules["cupy"], name, creator(name))
        modules["cupy"].ascontiguousarray = contiguous
        return modules


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Let NumPy's arrays be counted ones, which the kernels for CuPy work on, and values be out of sight."""
    with standing_in(Counter(), creator):
        yield


class ByLayer:
    """Gives what was launched since the last report to the layer that reports.

    No `Observer`, while which looks each layer runs alone.
    """

    def __init__(self, model: Layer) -> None:
        self.names = dict(self._named("", model))
        self.counts: dict[str, list[list[str]]] = {}

    def _named(self, path: str, layer: Layer) -> Iterator[tuple[int, str]]:
        for name, child in (layer.children() if hasattr(layer, "children") else {}).items():
            yield from self._named(f"{path}.{name}" if path else name, child)
        yield id(layer), f"{path} {type(layer).__name__}".strip()

    def _note(self, layer: Layer, way: int) -> None:
        self.counts.setdefault(self.names[id(layer)], [[], []])[way].extend(launched)
        launched.clear()

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Note every forward and backward of a layer in a ``with`` block; a relu done by the layer before is that's."""

        def noting(name: str, way: int):
            method = getattr(Layer, name)

            def noted(layer, *arguments, **settings):
                result = method(layer, *arguments, **settings)
                self._note(layer, way)
                return result

            return mock.patch.object(Layer, name, noted)

        with noting("_forward_by", 0), noting("_go_back", 1):
            yield


def count(
    model: Layer, shape: tuple[int, ...], classes: int = 10, optimizer: Optimizer | None = None
) -> dict[str, list[list[str]]]:
    """Return the launches of a second training step, of each layer [forward, backward], and of "loss" and the rest."""
    with counting():
        x, t = xp.zeros((*shape, 4), dtype=np.float32).transpose(3, 0, 1, 2), xp.zeros((4,), dtype=np.int64)
        model.build(shape, rng=1)
        loss, optimizer = SoftmaxCrossEntropy(), optimizer or Momentum()
        train_step(model, loss, optimizer, x, t)
        launched.clear()
        seen = ByLayer(model)
        with seen.looking():
            train_step(model, loss, optimizer, x, t)
        seen.counts["optimizer"] = [launched[:], []]
        launched.clear()
    return seen.counts


def count_operation(case: Case) -> tuple[list[str], list[str]]:
    """Return the launches of an operation of the table, forward and backward, its images lying batch-innermost."""

    def lying(a: np.ndarray | None) -> np.ndarray | None:
        if a is None or a.dtype.kind != "f":
            return a if a is None else a.view(Counted)
        a = a.astype(np.float32)
        a = np.ascontiguousarray(a.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2) if a.ndim == 4 else a
        return a.view(Counted)

    with counting():
        host = [lying(a) for a in case.make(np.random.default_rng(1))]
        launched.clear()
        y, ctx, *_ = case.forward(*host)
        forward = launched[:]
        dy = lying(np.ones(y.shape))
        launched.clear()
        case.backward(dy, ctx)
        return forward, launched[:]


def count_around(loss: Loss, targets: np.ndarray, sample: tuple[int, ...] = (3, 4, 4)) -> tuple[list[str], list[str]]:
    """Return what a trainer launches beside the step itself: for a batch of bytes kept on the GPU, and for its means.

    Of the second batch, when there are sums to be added to.
    """
    with counting():
        images = np.zeros((len(targets), *sample), np.uint8)
        loader = Loader(images, targets, batch_size=len(targets) // 2, on_device=True)
        means = Means(loss)
        for _, t in loader:
            batch = launched[:]
            y = xp.zeros((t.shape[0], 10), dtype=np.float32)
            value = loss.forward(y, t)
            launched.clear()
            means.add(value, y, t)
            measuring = launched[:]
            launched.clear()
        return batch, measuring


def total(counts: dict[str, list[list[str]]]) -> int:
    """Return the number of launches of a step."""
    return sum(len(way) for ways in counts.values() for way in ways)


LABELS = np.zeros(8, np.int64)
AROUND = {
    "labels": (SoftmaxCrossEntropy(), LABELS),
    "one-hot rows": (SoftmaxCrossEntropy(), np.eye(10, dtype=np.float32)[LABELS]),
    "labels, some left out": (SoftmaxCrossEntropy(ignore_index=-1), LABELS),
    "numbers": (MeanSquaredError(), np.zeros((8, 10), np.float32)),
}
MODELS = {"LeNet": (LeNet, (1, 28, 28)), "ResNet-20": (ResNet, (3, 32, 32))}


def main() -> None:
    """Print the launches of each operation, and of steps by layer."""
    importlib.import_module("xpnet")
    for case in CASES:
        forward, backward = count_operation(case)
        print(f"{case!s:<52}{len(forward):>3}{len(backward):>4}")
    for name, (loss, targets) in AROUND.items():
        batch, measuring = count_around(loss, targets)
        print(f"beside a step, {name}: batch {len(batch)} ({', '.join(batch)})", end=", ")
        print(f"loss and accuracy {len(measuring)} ({', '.join(measuring)})")
    for name, (make, shape) in MODELS.items():
        counts = count(make(), shape)
        print(f"{name}: {total(counts)} launches a training step")
        for layer, ways in counts.items():
            print(f"  {layer:<40}", *(f"{len(way):>3} ({', '.join(way)})" for way in ways if way))


if __name__ == "__main__":
    main()
