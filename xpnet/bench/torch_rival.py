"""The same networks in PyTorch, with the same weights; imported only where torch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from xpnet import backend, config, layers
from xpnet.backend.loaders import set_tf32_of_torch

__all__ = ["TorchRival", "translate"]


def _tensor(x: Any) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(backend.to_numpy(x)))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class _PaddedShortcut(nn.Module):
    """Every second pixel, and channels of zeros after those of x."""

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more * x.shape[1]))


# in place where PyTorch's own models are
_ACTIVATIONS = {"relu": lambda: nn.ReLU(inplace=True), "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}


def translate(layer: layers.Layer) -> nn.Module:
    """Return a built layer as a PyTorch module with the same weights.

    Raises
    ------
    ValueError
        If the layer is of a kind that no workload has.
    """
    if isinstance(layer, layers.Residual):
        return _Residual(translate(layer.body), translate(layer.shortcut))
    if isinstance(layer, layers.Parallel):
        first, *zeros = layer.children().values()
        if isinstance(first, layers.Pool2D) and all(isinstance(z, layers.Sequential) for z in zeros):
            return _PaddedShortcut(first.stride[0], len(zeros))
    if isinstance(layer, layers.Sequential):
        return nn.Sequential(*(translate(child) for child in layer))
    if isinstance(layer, (layers.Conv2D, layers.Dense)):
        return _with_weights(layer)
    if isinstance(layer, layers.BatchNorm):
        norm = nn.BatchNorm2d(layer.gamma.size, layer.eps, layer.momentum)
        norm.weight.data, norm.bias.data = _tensor(layer.gamma.data), _tensor(layer.beta.data)
        return norm
    if isinstance(layer, layers.Pool2D) and layer.padding == 0:
        kind = nn.MaxPool2d if layer.mode == "max" else nn.AvgPool2d
        return kind(layer.kernel_size, layer.stride)
    if isinstance(layer, layers.GlobalPool2D) and layer.mode == "average":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, layers.Flatten):
        return nn.Flatten()
    if isinstance(layer, layers.Dropout):
        return nn.Dropout(layer.rate)
    if isinstance(layer, layers.Activation) and layer.name in _ACTIVATIONS:
        return _ACTIVATIONS[layer.name]()
    raise ValueError(f"no PyTorch module for {layer!r}")


def _with_weights(layer: layers.Conv2D | layers.Dense) -> nn.Module:
    module: Any
    if isinstance(layer, layers.Dense):
        module = nn.Linear(*layer.W.shape, bias=layer.bias)
        module.weight.data = _tensor(layer.W.data).T.contiguous()
    else:
        F, C = layer.W.shape[:2]
        module = nn.Conv2d(
            C * layer.groups,
            F,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias,
        )
        module.weight.data = _tensor(layer.W.data)
    if layer.bias:
        module.bias.data = _tensor(layer.b.data)
    return module if layer.activation is None else nn.Sequential(module, _ACTIVATIONS[layer.activation]())


class TorchRival:
    """A PyTorch model in eager mode with Adam, and its batch in one memory format; TF32 as xpnet's setting has it.

    Parameters
    ----------
    model : Layer
        Built; its weights are copied.
    x : numpy array (N, C, H, W)
    t : numpy array (N,), int64
    channels_last : bool
    device : str, default "cpu"
    """

    def __init__(
        self, model: layers.Layer, x: np.ndarray, t: np.ndarray, channels_last: bool, device: str = "cpu"
    ) -> None:
        set_tf32_of_torch(torch, config.get("allow_tf32"))
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.module = translate(model).to(device, torch.from_numpy(x).dtype, memory_format=memory)
        if isinstance(self.module, nn.ReLU):
            self.module.inplace = False  # alone, it would change the batch
        self.x = torch.from_numpy(x).to(device).contiguous(memory_format=memory)
        self.t = torch.from_numpy(t).to(device)
        self.loss = nn.CrossEntropyLoss()
        parameters = list(self.module.parameters())
        self.optimizer = torch.optim.Adam(parameters) if parameters else None

    def train_step(self) -> torch.Tensor:
        """Forward, loss, backward, update."""
        self.module.train()
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        loss = self.loss(self.module(self.x), self.t)
        loss.backward()
        self.optimizer.step()
        return loss

    def captured_step(self) -> Callable[[], None]:
        """Return the whole of `train_step` as a CUDA graph, the update too, as PyTorch's documentation does it."""
        self.optimizer = torch.optim.Adam(self.module.parameters(), capturable=self.x.is_cuda)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self.train_step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.train_step()
        return graph.replay

    def predict(self) -> torch.Tensor:
        """Inference."""
        self.module.eval()
        with torch.inference_mode():
            return self.module(self.x)

    def forward(self) -> torch.Tensor:
        """Forward that keeps what backward needs; the input too gets a gradient."""
        self.module.train()
        return self.module(self.x.requires_grad_())

    def backward(self, y: torch.Tensor, dy: torch.Tensor) -> None:
        """Backward of what `forward` returned, as often as wanted."""
        self.x.grad = None
        y.backward(dy, retain_graph=True)
