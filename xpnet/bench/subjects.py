"""Who takes turns: xpnet, PyTorch in its two memory formats, and the textbook, each as a function without arguments."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from xpnet import backend
from xpnet.backend import to_numpy
from xpnet.bench.textbook import Textbook
from xpnet.bench.workloads import Operation, Workload
from xpnet.kernels import find
from xpnet.kernels.layout import inverse
from xpnet.layers import Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.optim import Adam, Optimizer
from xpnet.random import generator
from xpnet.training import CapturedGradients, train_step

__all__ = ["FORMATS", "GRAPHS", "RIVALS", "layer_subject", "make_batch", "operation_subjects", "step_subject"]

FORMATS = {"torch NCHW": False, "torch channels_last": True}
RIVALS = (*FORMATS, "textbook")
GRAPHS = ("xpnet graph", "torch graph")  # training steps that were recorded as CUDA graphs


def make_batch(input_shape: tuple[int, ...], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, C, H, W) float32 and labels."""
    rng = generator(1)
    x = rng.standard_normal((*input_shape, batch), dtype=np.float32)
    return np.moveaxis(x, -1, 0), rng.integers(0, 10, batch)


def _as_loaded(x: np.ndarray) -> Any:
    """Return images on the selected backend, lying as the loader delivers them; other arrays as they are."""
    if x.ndim != 4:
        return backend.asarray(x)
    xp = backend.get().xp
    order = find("image_order", xp)()
    return xp.permute_dims(backend.asarray(np.ascontiguousarray(x.transpose(order))), inverse(order))


def has_torch() -> bool:
    """Tell whether PyTorch is installed, and with a GPU, if xpnet runs on one."""
    if importlib.util.find_spec("torch") is None:
        return False
    return not _on_gpu() or importlib.import_module("torch").cuda.is_available()


def _on_gpu() -> bool:
    return array_api_compat.is_cupy_namespace(backend.get().xp)


def _torch_rival(*arguments: Any) -> Any:
    device = "cuda" if _on_gpu() else "cpu"
    return importlib.import_module("xpnet.bench.torch_rival").TorchRival(*arguments, device=device)


def step_subject(name: str, workload: Workload, mode: str) -> Callable[[], object] | None:
    """Return one training step (``"train"``) or one inference of a workload as a function.

    Parameters
    ----------
    name : str
        ``"xpnet"`` (on the selected backend) or one of `RIVALS` or `GRAPHS`.
    workload : Workload
    mode : {"train", "inference"}

    Returns
    -------
    function, or None
        None if the rival is not installed or has no such network, or if there are no CUDA graphs.
    """
    if name in GRAPHS and (mode != "train" or not _on_gpu()):
        return None
    x, t = make_batch(workload.input_shape, workload.batch)
    own = name in ("xpnet", "xpnet graph")
    with contextlib.nullcontext() if own else backend.using("numpy"):
        model = workload.model()
        model.build(workload.input_shape, rng=0)
        if own:
            given, labels = _as_loaded(x), backend.asarray(t, dtype=None)
            loss, optimizer = SoftmaxCrossEntropy(), Adam()
            if name == "xpnet graph":
                return _captured_step(model, loss, optimizer, given, labels)
            if mode == "train":
                return lambda: train_step(model, loss, optimizer, given, labels)
            return lambda: model.predict(given)
    if name == "textbook":
        if _on_gpu():
            return None
        try:
            book = Textbook(model)
        except ValueError:
            return None
        wide = np.ascontiguousarray(x, dtype=np.float64)
        return (lambda: book.train_step(wide, t)) if mode == "train" else (lambda: book.predict(wide))
    if not has_torch():
        return None
    rival = _torch_rival(model, np.ascontiguousarray(x), t, FORMATS.get(name, False))
    if name == "torch graph":
        return rival.captured_step()
    return rival.train_step if mode == "train" else rival.predict


def _captured_step(model: Layer, loss: Loss, optimizer: Optimizer, x: Any, t: Any) -> Callable[[], object]:
    gradients = CapturedGradients()

    def step() -> Any:
        value, _ = gradients(model, loss, x, t)
        optimizer.update(model)
        return value

    return step


def layer_subject(operation: Operation) -> Callable[[], object]:
    """Return one forward and backward of a layer of xpnet's as a function."""
    layer = operation.layer()
    layer.build(operation.input_shape, rng=0)
    given = _as_loaded(make_batch(operation.input_shape, operation.batch)[0])
    return lambda: layer.backward(layer.forward(given))  # y, lying as a gradient would, serves as one


def operation_subjects(operation: Operation) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the forward and the backward of one layer, each by subject."""
    x, t = make_batch(operation.input_shape, operation.batch)
    layer = operation.layer()
    layer.build(operation.input_shape, rng=0)
    given = _as_loaded(x)
    y, ctx = _forward(layer, given)
    dy, _ = make_batch(tuple(y.shape[1:]), operation.batch)
    back = _as_loaded(dy)
    forward: dict[str, Callable[[], object]] = {"xpnet": lambda: _forward(layer, given)}
    backward: dict[str, Callable[[], object]] = {"xpnet": lambda: _backward(layer, back, ctx)}
    for name, channels_last in FORMATS.items() if has_torch() else ():
        rival = _torch_rival(layer, np.ascontiguousarray(x), t, channels_last)
        out = rival.forward()
        gradient = out.new_empty(()).set_(out.detach().clone())  # laid out as torch has it
        gradient.copy_(out.new_tensor(np.ascontiguousarray(to_numpy(dy))))
        forward[name] = rival.forward
        backward[name] = lambda rival=rival, out=out, gradient=gradient: rival.backward(out, gradient)  # type: ignore[misc]
    return {"forward": forward, "backward": backward}


def _forward(layer: Layer, x: Any) -> tuple[Any, Any]:
    y = layer.forward(x, train=True)
    contexts = [(child, child._pending.pop()) for _, child in layer.named_layers() if child._pending]
    return y, contexts


def _backward(layer: Layer, dy: Any, contexts: list[tuple[Layer, Any]]) -> Any:
    for child, ctx in contexts:
        child._pending.append(ctx)
    return layer.backward(dy)
