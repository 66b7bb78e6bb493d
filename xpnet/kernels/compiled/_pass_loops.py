"""Passes over memory, compiled: what NumPy does in one pass for each operation is done here in as few as can be."""

import math
from typing import Any

from numba import types

from xpnet.kernels.compiled._compile import EXACT, Kernel, inline, spliced
from xpnet.kernels.compiled._exponential import exponential


def _batch_norm(x: Any, y: Any, gamma: Any, beta: Any, mean: Any, var: Any, inv_std: Any, eps: Any, given: bool,
                rectified: bool, begin: int, end: int) -> None:  # fmt: skip
    """Normalise rows `begin` to `end` of x (C, L) by their statistics, which are written unless they are `given`.

    With `rectified`, relu comes after it.
    """
    L, number = x.size // mean.size, x.dtype.type
    for c in range(begin, end):
        row, out = x[c * L : (c + 1) * L], y[c * L : (c + 1) * L]
        middle, rest = mean[c], number(0)
        if not given:
            total = square = number(0)
            for i in range(L):
                total += row[i]
            middle, total = total / number(L), number(0)
            for i in range(L):
                centred = row[i] - middle
                total += centred
                square += centred * centred
            rest = total / number(L)  # what rounding left in the mean of numbers far from 0
            mean[c], var[c] = middle + rest, square / number(L) - rest * rest
            if var[c] < number(0):
                var[c] = number(0)
        inv_std[c] = number(1) / math.sqrt(var[c] + eps)
        scale, shift = inv_std[c] * gamma[c], beta[c]
        least = number(0) if rectified else number(-math.inf)
        for i in range(L):
            made = (row[i] - middle - rest) * scale + shift
            out[i] = least if made < least else made  # NaN stays


@spliced
def _rectified(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] < zero else x[i]  # NaN stays


def _relu(x: Any, y: Any, over: bool, begin: int, end: int) -> None:
    """Write elements `begin` to `end` of max(x, 0), `over` x or to y."""
    given, made = x[begin:end], y[begin:end]
    if over:  # as in `_relu_gradient`
        _rectified(given, given)
    else:
        _rectified(given, made)


@inline
def _passed(dy: Any, y: Any, rectified: bool) -> Any:
    """Return what relu lets through of a gradient; a product, as elsewhere, for NaN."""
    return dy * (type(dy)(1) if y > type(dy)(0) else type(dy)(0)) if rectified else dy


@spliced
def _normalised_back(dy: Any, x: Any, y: Any, dx: Any, middle: Any, common: Any, tilt: Any, scale: Any, train: bool,
                     rectified: bool) -> None:  # fmt: skip
    """Write the gradient of a row."""
    if train:
        for i in range(dy.size):
            dx[i] = (_passed(dy[i], y[i], rectified) - common - (x[i] - middle) * tilt) * scale
    else:
        for i in range(dy.size):
            dx[i] = _passed(dy[i], y[i], rectified) * scale


def _batch_norm_gradient(dy: Any, x: Any, y: Any, dx: Any, gamma: Any, mean: Any, inv_std: Any, dgamma: Any,
                         dbeta: Any, train: bool, rectified: bool, over: bool, begin: int,
                         end: int) -> None:  # fmt: skip
    """Write rows of dx (C, L), `over` dy or to dx, and of the sums dgamma and dbeta.

    With `train` the statistics pass gradient too; with `rectified`, dy passes where y > 0 only.
    """
    L, number = x.size // mean.size, x.dtype.type
    for c in range(begin, end):
        row, top = x[c * L : (c + 1) * L], y[c * L : (c + 1) * L]
        given, out = dy[c * L : (c + 1) * L], dx[c * L : (c + 1) * L]
        middle, scale = mean[c], inv_std[c] * gamma[c]
        total = product = number(0)
        for i in range(L):
            slope = _passed(given[i], top[i], rectified)
            total += slope
            product += slope * (row[i] - middle)
        dbeta[c], dgamma[c] = total, product * inv_std[c]
        common, tilt = total / number(L), dgamma[c] * inv_std[c] / number(L)
        if over:  # as in `_relu_gradient`
            _normalised_back(given, row, top, given, middle, common, tilt, scale, train, rectified)
        else:
            _normalised_back(given, row, top, out, middle, common, tilt, scale, train, rectified)


@spliced
def _let_through(dy: Any, y: Any, dx: Any) -> Any:
    """Write dy where y > 0, else 0, and return the sum."""
    total = dy.dtype.type(0)
    for i in range(dy.size):
        passed = _passed(dy[i], y[i], True)
        dx[i] = passed
        total += passed
    return total


def _relu_gradient(dy: Any, y: Any, dx: Any, db: Any, over: bool, begin: int, end: int) -> None:
    """Write rows `begin` to `end` of dy (C, L) where y > 0, `over` dy or to dx, and their sums db."""
    L = dy.size // db.size
    for c in range(begin, end):
        slope, top, out = dy[c * L : (c + 1) * L], y[c * L : (c + 1) * L], dx[c * L : (c + 1) * L]
        # the same code, but only with one name for both does LLVM see that it can use vectors
        db[c] = _let_through(slope, top, slope) if over else _let_through(slope, top, out)


@spliced
def _logistic(x: Any, y: Any) -> None:
    """Write 1 / (1 + exp(-x)) of float32, within 3 units in the last place, without overflow at any x."""
    number = x.dtype.type
    for i in range(x.size):
        y[i] = number(1) / (number(1) + exponential(-x[i]))


def _sigmoid(x: Any, y: Any, over: bool, begin: int, end: int) -> None:
    """Write elements `begin` to `end` of the sigmoid of x, `over` x or to y."""
    given, made = x[begin:end], y[begin:end]
    if over:  # as in `_relu_gradient`
        _logistic(given, given)
    else:
        _logistic(given, made)


@spliced
def _logistic_slope(dy: Any, y: Any, dx: Any) -> None:
    number = dy.dtype.type
    for i in range(dy.size):
        dx[i] = dy[i] * (y[i] * (number(1) - y[i]))


def _sigmoid_gradient(dy: Any, y: Any, dx: Any, over: bool, begin: int, end: int) -> None:
    """Write elements `begin` to `end` of dy * y * (1 - y), `over` dy or to dx."""
    slope, top, out = dy[begin:end], y[begin:end], dx[begin:end]
    if over:
        _logistic_slope(slope, top, slope)
    else:
        _logistic_slope(slope, top, out)


def _adam(w: Any, g: Any, m: Any, v: Any, rate: Any, beta1: Any, beta2: Any, eps: Any, root: Any, begin: int,
          end: int) -> None:  # fmt: skip
    """Adam's step for the elements `begin` to `end`, with the corrections of the means in `rate` and `root`."""
    number = w.dtype.type
    wp, gp, mp, vp = w[begin:end], g[begin:end], m[begin:end], v[begin:end]
    for i in range(end - begin):
        mp[i] = mp[i] * beta1 + gp[i] * (number(1) - beta1)
        vp[i] = vp[i] * beta2 + gp[i] * gp[i] * (number(1) - beta2)
        wp[i] -= mp[i] * rate / (math.sqrt(vp[i]) * root + eps)


_int, _bool = types.int64, types.boolean

relu = Kernel(_relu, lambda T: (T, T, _bool, _int, _int))
batch_norm = Kernel(_batch_norm, lambda T: (T, T, T, T, T, T, T, T.dtype, _bool, _bool, _int, _int))
batch_norm_gradient = Kernel(_batch_norm_gradient, lambda T: (*[T] * 9, _bool, _bool, _bool, _int, _int))
sigmoid = Kernel(_sigmoid, lambda T: (T, T, _bool, _int, _int), EXACT, "f")
sigmoid_gradient = Kernel(_sigmoid_gradient, lambda T: (T, T, T, _bool, _int, _int))
relu_gradient = Kernel(_relu_gradient, lambda T: (T, T, T, T, _bool, _int, _int))
adam = Kernel(_adam, lambda T: (T, T, T, T, T.dtype, T.dtype, T.dtype, T.dtype, T.dtype, _int, _int))
