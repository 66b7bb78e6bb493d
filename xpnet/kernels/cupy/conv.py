"""Convolution for CuPy: by cuDNN where it is used, else columns, one 2-D matrix product, and columns gathered back.

A GPU wants few and large launches, so blocks are sized by a budget of their own, ``XPNET_CONV_WORKSPACE_GPU``: all but
the largest layers are one block. Only products of two matrices reach the tensor cores through CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cupy

from xpnet import config
from xpnet.backend import Array, wide_dtype
from xpnet.kernels.agnostic.conv import blocks
from xpnet.kernels.cuda import is_wide
from xpnet.kernels.cupy import cudnn
from xpnet.kernels.cupy.bias import bias_gradient, with_bias
from xpnet.kernels.cupy.graph import is_recording
from xpnet.kernels.cupy.launch import THREADS, innermost, launch, launch_grid, window_argument
from xpnet.kernels.cupy.matmul import matmul
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first
from xpnet.kernels.table import register

__all__ = ["conv2d_backward", "conv2d_forward", "conv2d_input_gradient", "conv2d_relu_forward"]

TAPS_PER_THREAD = 8  # of im2col: each takes the divisions that say where the thread's pixel is

Block = tuple[slice, slice]  # output rows and columns


def _blocks(window: Window, channels: int, like: Array) -> list[Block]:
    """Cut the output into blocks whose columns fit the budget; `like` is (..., N)."""
    bytes_per_pixel = channels * math.prod(window.kernel) * like.shape[-1] * like.dtype.itemsize
    return list(blocks(window, bytes_per_pixel, config.get("conv_workspace_gpu")))


def _columns(x: Array, window: Window, block: Block) -> Array:
    """Return what the output pixels of a block read of `x` (C, H, W, N), as (C*KH*KW, pixels*N)."""
    rows, columns = block
    C, N = x.shape[0], x.shape[3]
    if window.is_pointwise:
        return x[:, rows, columns].reshape(C, -1)  # all of it: a view
    height, width = rows.stop - rows.start, columns.stop - columns.start
    taps, L = C * math.prod(window.kernel), height * width * N
    col = cupy.empty((taps, L), dtype=x.dtype)
    grid = (-(-L // THREADS), min(65535, -(-taps // TAPS_PER_THREAD)))
    arguments = (x, col, window_argument(window), N, taps, rows.start, height, columns.start, width)
    launch_grid("conv", "im2col", x.dtype, is_wide(max(x.size, col.size)), grid, THREADS, *arguments)
    return col


def _part(y: Array, block: Block) -> Array:
    """Return the pixels of a block of `y` (F, OH, OW, N) as (F, pixels*N); a view if the block is the whole."""
    rows, columns = block
    return y[:, rows, columns].reshape(y.shape[0], -1)


def _product(a: Array, b: Array) -> Array:
    """Multiply each of the matrices `a` (G, M, K) with its rows of `b` (G*K, L): (G*M, L)."""
    G, M, K = a.shape
    if G == 1:
        return matmul(a[0], b)
    if a.dtype.char in "fd" or is_recording():
        return matmul(a, b.reshape(G, K, -1)).reshape(G * M, -1)
    # batches of 16-bit matrices CuPy would convert to float32, or refuse
    out = cupy.empty((G * M, b.shape[1]), dtype=b.dtype)
    for g in range(G):
        out[g * M : (g + 1) * M] = matmul(a[g], b[g * K : (g + 1) * K])
    return out


def _matrices(W: Array, groups: int) -> Array:
    return W.reshape(groups, W.shape[0] // groups, -1)


@register("cupy", "conv2d_forward")
def conv2d_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Convolve x (N, C, H, W) with W (F, C/groups, KH, KW): (N, F, OH, OW)."""
    return with_bias(_forward(innermost(x), W, window, groups), b, False)


@register("cupy", "conv2d_relu_forward")
def conv2d_relu_forward(x: Array, W: Array, b: Array | None, window: Window, groups: int) -> Array:
    """Return relu(conv2d(x, W, b)), (N, F, OH, OW)."""
    return with_bias(_forward(innermost(x), W, window, groups), b, True)


def _forward(x: Array, W: Array, window: Window, groups: int) -> Array:
    """Return the convolution (F, OH, OW, N) of x (C, H, W, N)."""
    by_cudnn = cudnn.forward(x, W, window)
    if by_cudnn is not None:
        return by_cudnn
    shape = (W.shape[0], *window.output, x.shape[3])
    y: Any = None
    parts = _blocks(window, x.shape[0], x)
    for block in parts:
        product = _product(_matrices(W, groups), _columns(x, window, block))
        if len(parts) == 1:
            return product.reshape(shape)
        y = cupy.empty(shape, dtype=x.dtype) if y is None else y
        target = y[:, block[0], block[1]]
        target[...] = product.reshape(target.shape)
    return y


@register("cupy", "conv2d_backward")
def conv2d_backward(
    dy: Array, x: Array, W: Array, window: Window, groups: int, need_dx: bool, need_db: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return dx, dW, db; None for what is not needed."""
    dy_inner, inner = innermost(dy), innermost(x)
    db = bias_gradient(dy_inner) if need_db else None
    dW = cudnn.weight_gradient(dy_inner, inner, tuple(W.shape), window)
    if dW is None:
        dW = _weight_gradient(dy_inner, inner, window, groups).reshape(W.shape).astype(dy.dtype, copy=False)
    dx = batch_first(cupy, _input_gradient(dy_inner, W, window, groups)) if need_dx else None
    return dx, dW, db


def _weight_gradient(dy: Array, x: Array, window: Window, groups: int) -> Array:
    """Return the sum over blocks of dy @ columns^T, (G, F/G, K), in at least float32."""
    wide, dW = wide_dtype(cupy, dy.dtype), None
    for product in _weight_gradients(dy, x, window, groups):
        product = product.astype(wide, copy=False)
        dW = product if dW is None else dW + product
    return dW


def _weight_gradients(dy: Array, x: Array, window: Window, groups: int) -> Iterator[Array]:
    """Yield dy @ columns^T of each block and group, (G, F/G, K)."""
    for block in _blocks(window, x.shape[0], x):
        part, columns = _part(dy, block), _columns(x, window, block)
        if groups == 1:
            yield matmul(part, columns.T)[None]
            continue
        c, d = columns.reshape(groups, -1, columns.shape[1]), part.reshape(groups, -1, part.shape[1])
        by_group = d, c.swapaxes(1, 2)
        yield matmul(*by_group) if is_recording() else cupy.stack([*map(matmul, *by_group)])


@register("cupy", "conv2d_input_gradient")
def conv2d_input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """Return dx (N, C, H, W) of dy (N, F, OH, OW) alone: the forward of a transposed convolution."""
    return batch_first(cupy, _input_gradient(innermost(dy), W, window, groups))


def _input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array:
    """dx (C, H, W, N) of dy (F, OH, OW, N): columns W^T @ dy, which each pixel then gathers for itself."""
    by_cudnn = cudnn.input_gradient(dy, W, window, groups)
    if by_cudnn is not None:
        return by_cudnn
    C, N = groups * W.shape[1], dy.shape[3]
    transposed = _matrices(W, groups).transpose(0, 2, 1)
    parts = _blocks(window, C, dy)
    if window.is_pointwise and len(parts) == 1:
        return _product(transposed, _part(dy, parts[0])).reshape(C, *window.input, N)
    dx = cupy.empty((C, *window.input, N), dtype=dy.dtype)
    for i, block in enumerate(parts):
        rows, columns = block
        col = _product(transposed, _part(dy, block))
        place = (rows.start, rows.stop - rows.start, columns.start, columns.stop - columns.start)
        like = col if col.size > dx.size else dx
        launch("conv", "col2im", like, dx.size, col, dx, window_argument(window), N, dx.size, *place, i > 0)
    return dx
