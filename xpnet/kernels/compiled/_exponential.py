"""The exponential function of float32, and what is near it, in code that LLVM takes vectors for."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpnet.kernels.compiled._compile import EXACT, Kernel, spliced


@intrinsic
def _power_of_two(typing: Any, exponent: Any) -> Any:
    """Return 2^exponent as float32, for a whole number from -126 to 127."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        field = builder.shl(builder.add(given[0], ir.Constant(ir.IntType(32), 127)), ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(field, ir.FloatType())

    return types.float32(types.int32), emit


@spliced
def _parts(t: Any) -> tuple[Any, Any]:
    """Return q and 2^n with exp(t) = (q + 1) 2^n, for t below -87 and above 88 those of these.

    For kernels compiled with `EXACT`. The rest r of t = n log(2) + r is at most log(2) / 2 in size, q = exp(r) - 1 by
    the polynomial of Moshier's Cephes library.
    """
    t = np.float32(-87) if t < np.float32(-87) else t
    t = np.float32(88) if t > np.float32(88) else t  # NaN stays
    n = np.floor(t * np.float32(1.44269504) + np.float32(0.5))
    r = t - n * np.float32(0.693359375)  # log(2) in two parts, the first with few digits: no rounding
    r += n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return p * r * r + r, _power_of_two(types.int32(n if n == n else np.float32(0)))


@spliced
def exponential(t: Any) -> Any:
    """Return exp(t) of a float32, within 2 units in the last place, as `_parts` has it."""
    q, power = _parts(t)
    return (q + np.float32(1)) * power


def _expm1(x: Any, y: Any, begin: int, end: int) -> None:
    """Write exp(x) - 1 of the elements `begin` to `end`, which are not positive."""
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        q, power = _parts(given[i])
        made[i] = q * power + (power - np.float32(1))


def _log1p(x: Any, y: Any, begin: int, end: int) -> None:
    """Write log(1 + x) = 2 artanh(x / (2 + x)) of the elements `begin` to `end`, which are in 0 to 1."""
    given, made = x[begin:end], y[begin:end]
    for i in range(given.size):
        s = given[i] / (np.float32(2) + given[i])
        z = s * s
        p = np.float32(1 / 15)
        p = p * z + np.float32(1 / 13)
        p = p * z + np.float32(1 / 11)
        p = p * z + np.float32(1 / 9)
        p = p * z + np.float32(1 / 7)
        p = p * z + np.float32(1 / 5)
        p = p * z + np.float32(1 / 3)
        made[i] = np.float32(2) * (s + s * z * p)


expm1_of_negative = Kernel(_expm1, lambda T: (T, T, types.int64, types.int64), EXACT, "f")
log1p_of_unit = Kernel(_log1p, lambda T: (T, T, types.int64, types.int64), EXACT, "f")
