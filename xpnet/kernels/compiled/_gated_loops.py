"""x times a smooth gate, and the gradients, of float32, compiled; the formulas are those of `agnostic/gated.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from xpnet.kernels.agnostic.gated import CUBIC, DENSITY, SQRT_HALF, TANH_SCALE
from xpnet.kernels.agnostic.special import P32, Q32
from xpnet.kernels.compiled._compile import EXACT, Kernel, spliced
from xpnet.kernels.compiled._exponential import exponential

ONE = np.float32(1)
SCALE, CUBE = np.float32(TANH_SCALE), np.float32(TANH_SCALE * CUBIC)
HALF_ROOT, HEIGHT = np.float32(SQRT_HALF), np.float32(DENSITY)
P0, P1, P2, P3 = (np.float32(c) for c in P32)
Q0, Q1, Q2, Q3 = (np.float32(c) for c in Q32)
END = np.float32(4.25)  # of erf, which is 1 there


@spliced
def _bounded(x: Any, limit: Any) -> Any:
    low = -limit if x < -limit else x  # NaN stays
    return limit if low > limit else low


@spliced
def _silu(x: Any) -> tuple[Any, Any]:
    """Return the gate and its derivative."""
    gate = ONE / (ONE + exponential(-x))
    return gate, gate * (ONE - gate)


@spliced
def _normal(x: Any) -> tuple[Any, Any]:
    """Return the integral of the normal density up to x, by erf(a) = tanh(a R(a^2)), and the density."""
    a = _bounded(x * HALF_ROOT, END)
    z = a * a
    u = a * (((P3 * z + P2) * z + P1) * z + P0) / (((Q3 * z + Q2) * z + Q1) * z + Q0)
    gate = ONE / (ONE + exponential(np.float32(-2) * u))  # (1 + tanh(u)) / 2
    gate = np.float32(0) if a <= -END else gate
    return gate, HEIGHT * exponential(np.float32(-0.5) * x * x)


@spliced
def _by_tanh(x: Any) -> tuple[Any, Any]:
    """Return (1 + tanh(u)) / 2, with u = sqrt(2 / pi) (x + 0.044715 x^3), and its derivative."""
    a = _bounded(x, np.float32(10))
    z = a * a
    gate = ONE / (ONE + exponential(np.float32(-2) * a * (z * CUBE + SCALE)))
    return gate, np.float32(2) * gate * (ONE - gate) * (z * (np.float32(3) * CUBE) + SCALE)


@spliced
def _mish(x: Any) -> tuple[Any, Any]:
    """Return tanh(log(1 + e)) with e = exp(x), which is n / (n + 2) with n = e (e + 2), and its derivative."""
    e = exponential(np.float32(20) if x > np.float32(20) else x)
    n = e * (e + np.float32(2))
    root = np.float32(2) / (n + np.float32(2))
    return n / (n + np.float32(2)), root * root * e * (ONE + e)


@spliced
def _at_least(x: Any, low: float) -> Any:
    return np.float32(low) if x < np.float32(low) else x  # NaN stays


@spliced
def _slope(gate: tuple[Any, Any], x: Any, flat: float) -> Any:
    """Return gate + x * its derivative, which is as good as 0 beyond +-`flat`."""
    return gate[0] + gate[1] * _bounded(x, np.float32(flat))


# One function for each: Numba keeps no machine code of functions made by functions.


def _silu_loop(x: Any, y: Any, begin: int, end: int) -> None:
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        made[i] = _silu(given[i])[0] * _at_least(given[i], -87.0)


def _silu_gradient_loop(dy: Any, x: Any, dx: Any, begin: int, end: int) -> None:
    slope, given, made = dy[begin:end], x[begin:end], dx[begin:end]
    for i in range(given.size):
        made[i] = _slope(_silu(given[i]), given[i], 87.0) * slope[i]


def _gelu_none_loop(x: Any, y: Any, begin: int, end: int) -> None:
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        made[i] = _normal(given[i])[0] * _at_least(given[i], -40.0)


def _gelu_none_gradient_loop(dy: Any, x: Any, dx: Any, begin: int, end: int) -> None:
    slope, given, made = dy[begin:end], x[begin:end], dx[begin:end]
    for i in range(given.size):
        made[i] = _slope(_normal(given[i]), given[i], 40.0) * slope[i]


def _gelu_tanh_loop(x: Any, y: Any, begin: int, end: int) -> None:
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        made[i] = _by_tanh(given[i])[0] * _at_least(given[i], -40.0)


def _gelu_tanh_gradient_loop(dy: Any, x: Any, dx: Any, begin: int, end: int) -> None:
    slope, given, made = dy[begin:end], x[begin:end], dx[begin:end]
    for i in range(given.size):
        made[i] = _slope(_by_tanh(given[i]), given[i], 40.0) * slope[i]


def _mish_loop(x: Any, y: Any, begin: int, end: int) -> None:
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        made[i] = _mish(given[i])[0] * _at_least(given[i], -1000.0)


def _mish_gradient_loop(dy: Any, x: Any, dx: Any, begin: int, end: int) -> None:
    slope, given, made = dy[begin:end], x[begin:end], dx[begin:end]
    for i in range(given.size):
        made[i] = _slope(_mish(given[i]), given[i], 87.0) * slope[i]


def _kernel(function: Callable[..., None], arrays: int) -> Kernel:
    return Kernel(function, lambda T: (*[T] * arrays, types.int64, types.int64), EXACT, "f")


silu, silu_gradient = _kernel(_silu_loop, 2), _kernel(_silu_gradient_loop, 3)
gelu_none, gelu_none_gradient = _kernel(_gelu_none_loop, 2), _kernel(_gelu_none_gradient_loop, 3)
gelu_tanh, gelu_tanh_gradient = _kernel(_gelu_tanh_loop, 2), _kernel(_gelu_tanh_gradient_loop, 3)
mish, mish_gradient = _kernel(_mish_loop, 2), _kernel(_mish_gradient_loop, 3)
