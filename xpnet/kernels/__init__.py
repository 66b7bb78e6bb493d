"""The kernel table: the few heavy operations, in a standard-only version and in faster ones per library.

`xpnet.kernels.agnostic` holds the complete standard-only implementation, which is also the reference
in the tests. A library's module may register a faster function of the same signature under the same
name; ``XPNET_KERNELS=agnostic`` turns all of those off.
"""

from xpnet.kernels import agnostic, numpy  # importing them fills the table
from xpnet.kernels.table import find, load, register, registered

__all__ = ["agnostic", "find", "load", "numpy", "register", "registered"]
