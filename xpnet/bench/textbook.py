"""The network that a textbook teaches: NumPy, float64, NCHW, im2col columns made whole and kept for backward.

It is measured against, not used: each layer is written as *Deep Learning from Scratch* (chapters 5 to 7) has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpnet import layers

__all__ = ["Textbook"]


def _im2col(x: np.ndarray, KH: int, KW: int, stride: int, padding: int) -> np.ndarray:
    N, C, H, W_ = x.shape
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W_ + 2 * padding - KW) // stride + 1
    image = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    col = np.zeros((N, C, KH, KW, OH, OW))
    for i in range(KH):
        for j in range(KW):
            col[:, :, i, j] = image[:, :, i : i + stride * OH : stride, j : j + stride * OW : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * OH * OW, -1)


def _col2im(col: np.ndarray, shape: tuple[int, ...], KH: int, KW: int, stride: int, padding: int) -> np.ndarray:
    N, C, H, W_ = shape
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W_ + 2 * padding - KW) // stride + 1
    col = col.reshape(N, OH, OW, C, KH, KW).transpose(0, 3, 4, 5, 1, 2)
    image = np.zeros((N, C, H + 2 * padding + stride - 1, W_ + 2 * padding + stride - 1))
    for i in range(KH):
        for j in range(KW):
            image[:, :, i : i + stride * OH : stride, j : j + stride * OW : stride] += col[:, :, i, j]
    return image[:, :, padding : H + padding, padding : W_ + padding]


class _Convolution:
    def __init__(self, W: np.ndarray, b: np.ndarray, stride: int, padding: int) -> None:
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]
        self.stride, self.padding = stride, padding

    def forward(self, x: np.ndarray) -> np.ndarray:
        W, b = self.params
        F, _, KH, KW = W.shape
        self.col, self.col_W, self.shape = _im2col(x, KH, KW, self.stride, self.padding), W.reshape(F, -1).T, x.shape
        OH = (x.shape[2] + 2 * self.padding - KH) // self.stride + 1
        return (self.col @ self.col_W + b).reshape(len(x), OH, -1, F).transpose(0, 3, 1, 2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        F, C, KH, KW = self.params[0].shape
        dy = dy.transpose(0, 2, 3, 1).reshape(-1, F)
        self.grads = [(self.col.T @ dy).T.reshape(F, C, KH, KW), np.sum(dy, axis=0)]
        return _col2im(dy @ self.col_W.T, self.shape, KH, KW, self.stride, self.padding)


class _Pooling:
    params: tuple[()] = ()

    def __init__(self, size: int, stride: int) -> None:
        self.size, self.stride = size, stride

    def forward(self, x: np.ndarray) -> np.ndarray:
        N, C, H, W_ = self.shape = x.shape
        OH, OW = (H - self.size) // self.stride + 1, (W_ - self.size) // self.stride + 1
        col = _im2col(x, self.size, self.size, self.stride, 0).reshape(-1, self.size**2)
        self.first = np.argmax(col, axis=1)
        return np.max(col, axis=1).reshape(N, OH, OW, C).transpose(0, 3, 1, 2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = dy.transpose(0, 2, 3, 1)
        dmax = np.zeros((dy.size, self.size**2))
        dmax[np.arange(self.first.size), self.first] = dy.flatten()
        dcol = dmax.reshape(dy.shape[0] * dy.shape[1] * dy.shape[2], -1)
        return _col2im(dcol, self.shape, self.size, self.size, self.stride, 0)


class _Affine:
    def __init__(self, W: np.ndarray, b: np.ndarray) -> None:
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.shape = x.shape
        self.x = x.reshape(len(x), -1)
        return self.x @ self.params[0] + self.params[1]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.grads = [self.x.T @ dy, np.sum(dy, axis=0)]
        return (dy @ self.params[0].T).reshape(self.shape)


class _Relu:
    params: tuple[()] = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.mask = x <= 0
        y = x.copy()
        y[self.mask] = 0
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = dy.copy()
        dx[self.mask] = 0
        return dx


class _Sigmoid:
    params: tuple[()] = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * (1.0 - self.y) * self.y


class _Dropout:
    params: tuple[()] = ()

    def __init__(self, rate: float) -> None:
        self.rate, self.train = rate, True

    def forward(self, x: np.ndarray) -> np.ndarray:
        if not self.train:
            return x
        self.mask = (np.random.rand(*x.shape) > self.rate) / (1.0 - self.rate)  # noqa: NPY002 as in the book
        return x * self.mask

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * self.mask


_ACTIVATIONS: dict[str, Callable[[], Any]] = {"relu": _Relu, "sigmoid": _Sigmoid}


class Textbook:
    """The textbook's copy of a built model, with softmax, cross entropy and Adam.

    Parameters
    ----------
    model : Sequential
        Of convolution (one padding for both axes), maximum pooling, flatten, dense and dropout layers.

    Raises
    ------
    ValueError
        If the model has a layer that the textbook does not have.
    """

    def __init__(self, model: Iterable[layers.Layer]) -> None:
        self.layers: list[Any] = []
        for layer in model:
            self._add(layer)
        self.moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer.params] for layer in self.layers]
        self.step = 0

    def _add(self, layer: layers.Layer) -> None:
        if isinstance(layer, (layers.Conv2D, layers.Dense)) and layer.bias:
            W, b = (np.array(p.data, dtype=np.float64) for p in (layer.W, layer.b))
            if isinstance(layer, layers.Dense):
                self.layers.append(_Affine(W, b))
            else:
                self.layers.append(_Convolution(W, b, layer.stride[0], int(layer.padding)))  # type: ignore[arg-type]
            if layer.activation is not None:
                self.layers.append(_ACTIVATIONS[layer.activation]())
        elif isinstance(layer, layers.Pool2D) and layer.mode == "max":
            self.layers.append(_Pooling(layer.kernel_size[0], layer.stride[0]))
        elif isinstance(layer, layers.Dropout):
            self.layers.append(_Dropout(layer.rate))
        elif not isinstance(layer, layers.Flatten):
            raise ValueError(f"the textbook has no layer like {layer!r}")

    def predict(self, x: np.ndarray, train: bool = False) -> np.ndarray:
        """Return the scores (N, classes)."""
        for layer in self.layers:
            if isinstance(layer, _Dropout):
                layer.train = train
            x = layer.forward(x)
        return x

    def train_step(self, x: np.ndarray, t: np.ndarray) -> float:
        """Learn from one batch; return its loss."""
        scores = self.predict(x, train=True)
        p = np.exp(scores - np.max(scores, axis=1, keepdims=True))
        p /= np.sum(p, axis=1, keepdims=True)
        rows = np.arange(len(t))
        loss = -np.sum(np.log(p[rows, t] + 1e-7)) / len(t)
        p[rows, t] -= 1
        dy = p / len(t)
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        self._adam()
        return float(loss)

    def _adam(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.step += 1
        lr_t = lr * np.sqrt(1.0 - beta2**self.step) / (1.0 - beta1**self.step)
        for layer, moments in zip(self.layers, self.moments, strict=True):
            for w, (m, v), g in zip(layer.params, moments, getattr(layer, "grads", ()), strict=True):
                m += (1 - beta1) * (g - m)
                v += (1 - beta2) * (g**2 - v)
                w -= lr_t * m / (np.sqrt(v) + 1e-7)
