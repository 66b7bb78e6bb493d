"""Oracles: plain float64 loops that are obviously right, numerical gradients, and torch's autograd.

Nothing here imports xpnet. Loops over pixels are slow on purpose; keep the arrays small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

# Central differences with step eps are off by about eps**2 times the third derivative, and by the rounding
# of f, 1e-16 |f| / eps: some 1e-10 for eps = 1e-6 and sums of size 1. This leaves room for sums of size 100.
DIFFERENCE_RTOL = 1e-8

Pads = tuple[tuple[int, int], tuple[int, int]]
NO_PADS: Pads = ((0, 0), (0, 0))


def output_pixels(size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int) -> int:
    """Count the positions where the whole window fits, by trying them one after the other."""
    count, start = 0, -pads[0]
    while start + dilation * (kernel - 1) <= size + pads[1] - 1:
        count, start = count + 1, start + stride
    return count


def naive_conv2d(x, W, b=None, stride=(1, 1), padding=NO_PADS, dilation=(1, 1), groups=1):
    x, W = np.asarray(x, np.float64), np.asarray(W, np.float64)
    (N, _, H, W_), (F, C, KH, KW) = x.shape, W.shape
    OH = output_pixels(H, KH, stride[0], padding[0], dilation[0])
    OW = output_pixels(W_, KW, stride[1], padding[1], dilation[1])
    y = np.zeros((N, F, OH, OW))
    for n, f, p, q in np.ndindex(N, F, OH, OW):
        first_channel = f // (F // groups) * C
        total = 0.0 if b is None else float(b[f])
        for c, i, j in np.ndindex(C, KH, KW):
            row = p * stride[0] - padding[0][0] + i * dilation[0]
            column = q * stride[1] - padding[1][0] + j * dilation[1]
            if 0 <= row < H and 0 <= column < W_:
                total += W[f, c, i, j] * x[n, first_channel + c, row, column]
        y[n, f, p, q] = total
    return y


def naive_conv_transpose2d(
    x, W, b=None, stride=(1, 1), padding=NO_PADS, output_padding=(0, 0), dilation=(1, 1), groups=1
):
    x, W = np.asarray(x, np.float64), np.asarray(W, np.float64)
    (N, C, H, W_), (_, filters, KH, KW) = x.shape, W.shape
    OH = (H - 1) * stride[0] - sum(padding[0]) + dilation[0] * (KH - 1) + output_padding[0] + 1
    OW = (W_ - 1) * stride[1] - sum(padding[1]) + dilation[1] * (KW - 1) + output_padding[1] + 1
    y = np.zeros((N, filters * groups, OH, OW))
    if b is not None:
        y += np.asarray(b, np.float64)[:, None, None]
    for n, c, p, q in np.ndindex(N, C, H, W_):
        for f, i, j in np.ndindex(filters, KH, KW):
            row = p * stride[0] - padding[0][0] + i * dilation[0]
            column = q * stride[1] - padding[1][0] + j * dilation[1]
            if 0 <= row < OH and 0 <= column < OW:
                y[n, c // (C // groups) * filters + f, row, column] += W[c, f, i, j] * x[n, c, p, q]
    return y


def naive_pool2d(x, kernel, stride=None, padding=NO_PADS, dilation=(1, 1), *, mode="max", count_include_pad=True, p=2):
    x = np.asarray(x, np.float64)
    stride = stride or kernel
    N, C, H, W_ = x.shape
    OH = output_pixels(H, kernel[0], stride[0], padding[0], dilation[0])
    OW = output_pixels(W_, kernel[1], stride[1], padding[1], dilation[1])
    y = np.zeros((N, C, OH, OW))
    for n, c, oh, ow in np.ndindex(N, C, OH, OW):
        seen = []
        for i, j in np.ndindex(*kernel):
            row = oh * stride[0] - padding[0][0] + i * dilation[0]
            column = ow * stride[1] - padding[1][0] + j * dilation[1]
            if 0 <= row < H and 0 <= column < W_:
                seen.append(float(x[n, c, row, column]))
        if mode == "max":
            y[n, c, oh, ow] = max(seen)
        elif mode == "lp":
            y[n, c, oh, ow] = math.fsum(abs(v) ** p for v in seen) ** (1 / p)
        else:
            y[n, c, oh, ow] = sum(seen) / (kernel[0] * kernel[1] if count_include_pad else len(seen))
    return y


def naive_im2col(x, kernel, stride=(1, 1), padding=NO_PADS, dilation=(1, 1)):
    """The form with explicit indices: pad, then pick channel, row and column of each element of the matrix."""
    x = np.asarray(x, np.float64)
    N, C, H, W_ = x.shape
    OH = output_pixels(H, kernel[0], stride[0], padding[0], dilation[0])
    OW = output_pixels(W_, kernel[1], stride[1], padding[1], dilation[1])
    padded = np.zeros((N, C, H + sum(padding[0]), W_ + sum(padding[1])))
    padded[:, :, padding[0][0] : padding[0][0] + H, padding[1][0] : padding[1][0] + W_] = x
    rows = list(itertools.product(range(N), range(OH), range(OW)))
    columns = list(itertools.product(range(C), range(kernel[0]), range(kernel[1])))
    col = np.zeros((len(rows), len(columns)))
    for r, (n, p, q) in enumerate(rows):
        for k, (c, i, j) in enumerate(columns):
            col[r, k] = padded[n, c, p * stride[0] + i * dilation[0], q * stride[1] + j * dilation[1]]
    return col


def naive_linear(x, W, b=None):
    y = np.zeros((x.shape[0], W.shape[1]))
    for n, o in np.ndindex(*y.shape):
        y[n, o] = math.fsum(float(x[n, i]) * float(W[i, o]) for i in range(x.shape[1]))
        y[n, o] += 0.0 if b is None else float(b[o])
    return y


def naive_batch_norm(x, gamma, beta, eps=1e-5, mean=None, var=None):
    """Return y, and the mean and the biased variance of each channel."""
    x = np.asarray(x, np.float64)
    C, y = x.shape[1], np.zeros(x.shape)
    means, variances = np.zeros(C), np.zeros(C)
    for c in range(C):
        values = [float(v) for v in x[:, c].ravel()]
        means[c] = math.fsum(values) / len(values) if mean is None else mean[c]
        variances[c] = math.fsum((v - means[c]) ** 2 for v in values) / len(values) if var is None else var[c]
        scale = (1.0 if gamma is None else float(gamma[c])) / math.sqrt(variances[c] + eps)
        y[:, c] = (x[:, c] - means[c]) * scale + (0.0 if beta is None else float(beta[c]))
    return y, means, variances


def naive_group_norm(x, gamma, beta, groups, eps):
    """Normalise each group of neighbouring channels; gamma and beta of a channel's or of a sample's shape."""
    x = np.asarray(x, np.float64)
    y = np.zeros(x.shape)
    width = x.shape[1] // groups
    for n, g in np.ndindex(x.shape[0], groups):
        members = (n, slice(g * width, (g + 1) * width))
        values = [float(v) for v in x[members].ravel()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        y[members] = (x[members] - mean) / math.sqrt(variance + eps)
    for index in np.ndindex(*x.shape):
        scale = index[1 : 1 + np.ndim(gamma)] if gamma is not None else ()
        y[index] *= 1.0 if gamma is None else float(gamma[scale])
        y[index] += 0.0 if beta is None else float(beta[index[1 : 1 + np.ndim(beta)]])
    return y


def naive_local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0):
    x = np.asarray(x, np.float64)
    y = np.zeros(x.shape)
    for n, c in np.ndindex(*x.shape[:2]):
        window = [x[n, j] ** 2 for j in range(c - size // 2, c + (size - 1) // 2 + 1) if 0 <= j < x.shape[1]]
        y[n, c] = x[n, c] / (k + alpha / size * sum(window)) ** beta
    return y


def naive_elementwise(function: Callable[[float], float], x):
    x = np.asarray(x, np.float64)
    return np.array([function(float(v)) for v in x.ravel()]).reshape(x.shape)


def naive_sigmoid(x):
    return naive_elementwise(lambda v: 1 / (1 + math.exp(-v)) if v > 0 else math.exp(v) / (1 + math.exp(v)), x)


def naive_log_softmax(row: Sequence[float]) -> list[float]:
    top = max(row)
    log_total = math.log(math.fsum(math.exp(v - top) for v in row))
    return [v - top - log_total for v in row]


def naive_softmax(x, axis=-1):
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    y = np.zeros(x.shape)
    for index in np.ndindex(*x.shape[:-1]):
        y[index] = [math.exp(v) for v in naive_log_softmax(x[index].tolist())]
    return np.moveaxis(y, -1, axis)


def naive_cross_entropy(logits, target) -> float:
    """Mean over the rows of -sum(target * log_softmax(logits)); target (N, K)."""
    losses = []
    for row, wanted in zip(logits.tolist(), target.tolist(), strict=True):
        pairs = zip(naive_log_softmax(row), wanted, strict=True)
        losses.append(-math.fsum(log_p * t for log_p, t in pairs if t != 0.0))
    return math.fsum(losses) / len(losses)


def numerical_gradient(f: Callable[[np.ndarray], float], x, eps: float = 1e-6) -> np.ndarray:
    """Central differences of the number f(x) with respect to each element of x, in float64."""
    x = np.array(x, np.float64)
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        here = x[index]
        x[index] = here + eps
        above = float(f(x.copy()))
        x[index] = here - eps
        below = float(f(x.copy()))
        x[index] = here
        gradient[index] = (above - below) / (2 * eps)
    return gradient


def torch_gradients(function: Callable, arrays: Sequence, dy) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Return function(*arrays) and its gradients by torch's autograd, in float64; None stays None.

    `function` gets tensors and may use ``torch.nn.functional``, imported by the test after this skip.
    """
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    tensors = [None if a is None else torch.tensor(np.array(a, np.float64), requires_grad=True) for a in arrays]
    y = function(*tensors)
    y.backward(torch.tensor(np.array(dy, np.float64)))
    return y.detach().numpy(), [None if t is None else t.grad.numpy() for t in tensors]
