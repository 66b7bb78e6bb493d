"""The backend selector: which array library makes new arrays, and which one an array belongs to.

The selection (``XPNET_BACKEND``, `use`, `using`) decides where arrays are *created*. Computation
follows its inputs through `array_namespace`, so several backends live in one process; of several
GPUs with CuPy, a thread computes on the selected one, and arrays of another are refused. Apart
from the kernels written for them, this is the only part of xpnet that imports CuPy or torch.

================  ==============================================================================
``XPNET_BACKEND``  ``auto`` (default) | ``numpy`` | ``cupy[:device]`` | ``torch[:device]`` |
                   ``array_api_strict[:device]`` | a registered name
``XPNET_DTYPE``    ``float32`` (default) | ``float64`` | ``float16`` | ``bfloat16``
================  ==============================================================================
"""

from xpnet.backend.namespaces import (
    DTYPES,
    Array,
    array_namespace,
    bounded,
    device_of,
    dtype_by_name,
    dtype_name,
    finfo,
    has_writable_views,
    is_half,
    is_on_host,
    sign,
    wide_dtype,
)
from xpnet.backend.selection import Backend, BackendStatus, available, get, register, use, using
from xpnet.backend.threads import carry
from xpnet.backend.transfer import asarray, asarray_like, synchronize, synchronize_array, to_numpy
from xpnet.errors import BackendUnavailableError

__all__ = [
    "DTYPES",
    "Array",
    "Backend",
    "BackendStatus",
    "BackendUnavailableError",
    "array_namespace",
    "asarray",
    "asarray_like",
    "available",
    "bounded",
    "carry",
    "device_of",
    "dtype_by_name",
    "dtype_name",
    "finfo",
    "get",
    "has_writable_views",
    "is_half",
    "is_on_host",
    "register",
    "sign",
    "synchronize",
    "synchronize_array",
    "to_numpy",
    "use",
    "using",
    "wide_dtype",
]
