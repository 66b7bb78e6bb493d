"""The exponential function of float32 in code that LLVM takes vectors for."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpnet.kernels.compiled._compile import spliced


@intrinsic
def _power_of_two(typing: Any, exponent: Any) -> Any:
    """Return 2^exponent as float32, for a whole number from -126 to 127."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        field = builder.shl(builder.add(given[0], ir.Constant(ir.IntType(32), 127)), ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(field, ir.FloatType())

    return types.float32(types.int32), emit


@spliced
def exponential(t: Any) -> Any:
    """Return exp(t) of a float32, within 2 units in the last place, for t below -87 and above 88 that of those.

    For kernels compiled with `EXACT`. exp(t) = 2^n exp(r) with |r| <= log(2) / 2, exp(r) by the polynomial of Moshier's
    Cephes library.
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
    p = p * r * r + r + np.float32(1)
    exponent = types.int32(n if n == n else np.float32(0))
    return p * _power_of_two(exponent)
