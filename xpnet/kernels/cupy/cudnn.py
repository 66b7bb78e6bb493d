"""Convolution by cuDNN, where its Python front end is installed: graphs that are built once for each shape and kept.

CuPy has no cuDNN of its own since version 14. Images are given as they lie, (C, H, W, N); every stride is said, since
what the front end infers is another order. What cuDNN has no plan for is None here: a matrix product then does it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import logging
import math
import threading
from pathlib import Path
from typing import Any, NamedTuple

import cupy

from xpnet import config
from xpnet.backend import Array
from xpnet.backend.memory import is_out_of_memory
from xpnet.kernels.cupy.launch import address, check_device
from xpnet.kernels.geometry import Window
from xpnet.kernels.layout import batch_first

__all__ = ["Request", "describe", "forward", "input_gradient", "is_used", "weight_gradient"]

logger = logging.getLogger("xpnet")

ALIGNMENT = 16  # bytes, which plans take for granted
FAILURES = ("STATUS_EXECUTION_FAILED", "cudaError")  # of the device: they say nothing of a plan
TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF", "bfloat16": "BFLOAT16"}

Shape = tuple[int, ...]


class Request(NamedTuple):
    """All that a plan depends on. Images are (N, C, H, W) in shape and lie as (C, H, W, N)."""

    operation: str  # "forward", "input_gradient" or "weight_gradient"
    x: Shape
    W: Shape  # groups are there by C / groups channels
    y: Shape
    dtype: str
    padding: tuple[tuple[int, int], tuple[int, int]]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    allow_tf32: bool
    deterministic: bool
    workspace: int
    device: int


class Plan(NamedTuple):
    """A graph that is ready to run, with its tensors x, W and y, and the bytes of scratch memory it takes."""

    graph: Any
    tensors: tuple[Any, Any, Any]
    workspace: int


class _Handles(threading.local):
    """cuDNN's handles of a thread, each with the stream it was told last."""

    def __init__(self) -> None:
        self.by_device: dict[int, list[Any]] = {}


_handles = _Handles()


@functools.cache
def _front_end() -> Any:
    """Return the module `cudnn`, or None if there is none or it finds no library."""
    if importlib.util.find_spec("cudnn") is None:
        return None
    _preload_runtime()
    try:
        module = importlib.import_module("cudnn")
        module.backend_version()  # importing it succeeds without the library
        return module
    except Exception as error:
        logger.warning("cuDNN cannot be used (%s); convolutions are matrix products", error)
        return None


def _preload_runtime() -> None:
    """Load the CUDA runtime of NVIDIA's Python packages, which the front end looks for by its name alone."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*/lib/libcudart.so.*")):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
                return
            except OSError:
                continue


def is_used() -> bool:
    """Tell whether convolutions go to cuDNN."""
    return config.get("cudnn") == "auto" and _front_end() is not None


def forward(x: Array, W: Array, window: Window) -> Array | None:
    """Return y (F, OH, OW, N) of x (C, H, W, N) and W (F, C/groups, KH, KW), or None."""
    if not is_used():
        return None
    y = cupy.empty((W.shape[0], *window.output, x.shape[3]), dtype=x.dtype)
    return y if _run("forward", x, W, y, window) else None


def input_gradient(dy: Array, W: Array, window: Window, groups: int) -> Array | None:
    """Return dx (C, H, W, N) of dy (F, OH, OW, N), or None."""
    if not is_used():
        return None
    dx = cupy.empty((groups * W.shape[1], *window.input, dy.shape[3]), dtype=dy.dtype)
    return dx if _run("input_gradient", dx, W, dy, window) else None


def weight_gradient(dy: Array, x: Array, shape: Shape, window: Window) -> Array | None:
    """Return dW of a shape (F, C/groups, KH, KW), or None."""
    if not is_used():
        return None
    dW = cupy.empty(shape, dtype=dy.dtype)
    return dW if _run("weight_gradient", x, dW, dy, window) else None


def _run(operation: str, x: Array, W: Array, y: Array, window: Window) -> bool:
    """Write the result into its array; False if there is no plan. All arrays are contiguous but for W."""
    check_device(operation, x, W, y)
    # all but the slowest plans turn the images into an order of their own, in memory that counts as theirs
    workspace = config.get("conv_workspace_gpu") + x.nbytes + y.nbytes
    request = Request(
        operation, batch_first(cupy, x).shape, tuple(W.shape), batch_first(cupy, y).shape, x.dtype.name,
        window.padding, window.stride, window.dilation, config.get("allow_tf32"), config.get("deterministic"),
        workspace, cupy.cuda.runtime.getDevice(),
    )  # fmt: skip
    plan = _plan(request)
    if plan is None:
        return False
    arrays = [_aligned(a) for a in (x, cupy.ascontiguousarray(W), y)]  # what has just been made already is
    scratch = cupy.empty((max(1, plan.workspace),), dtype=cupy.uint8)  # of the pool: free for what comes next here
    pointers = dict(zip(plan.tensors, map(address, arrays), strict=True))
    plan.graph.execute(pointers, address(scratch), handle=_handle(request.device))
    return True


def _aligned(a: Array) -> Array:
    """Return the array, or a copy where it begins in the middle of a flat buffer."""
    return a if address(a) % ALIGNMENT == 0 else a.copy()


def _handle(device: int) -> Any:
    """Return the handle of this thread for the current device, on the current stream."""
    cudnn, stream = _front_end(), cupy.cuda.get_current_stream().ptr
    known = _handles.by_device.get(device)
    if known is None:
        known = _handles.by_device[device] = [cudnn.create_handle(), None]
    if known[1] != stream:
        cudnn.set_stream(handle=known[0], stream=stream)
        known[1] = stream
    return known[0]


@functools.lru_cache(maxsize=1024)
def _plan(request: Request) -> Plan | None:
    """Return the plan for a request, or None if cuDNN has none.

    Want of memory and failures of the device are raised, and so not kept: the next time there may be a plan.
    """
    cudnn = _front_end()
    try:
        graph, tensors = describe(cudnn, request, handle=_handle(request.device))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes(_unwanted(cudnn, request))
        graph.deselect_workspace_greater_than(request.workspace)
        graph.check_support()
        graph.build_plans()
        return Plan(graph, tensors, int(graph.get_workspace_size()))
    except (cudnn.cudnnGraphNotSupportedError, NotImplementedError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error) or any(sign in str(error) for sign in FAILURES):
            raise
        logger.info("cuDNN has no plan for %s, a matrix product does it: %s", request, error)
        return None


def _unwanted(cudnn: Any, request: Request) -> list[Any]:
    """Return the notes of the plans that must not be chosen: less exact than the arrays' type, or by chance."""
    note = cudnn.numerical_note
    notes = [note.DOWN_CONVERT_INPUTS, note.REDUCED_PRECISION_REDUCTION]
    if request.dtype == "float32" and not request.allow_tf32:
        notes.append(note.TENSOR_CORE)  # in float32 they round to TF32
    if request.deterministic:
        notes.append(note.NONDETERMINISTIC)
    return notes


def describe(cudnn: Any, request: Request, **settings: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return the graph of a request and its tensors x, W and y, of which the operation's result is one."""
    dtype = getattr(cudnn.data_type, TYPES[request.dtype])
    arithmetic = dtype if request.dtype == "float64" else cudnn.data_type.FLOAT
    types = {"io_data_type": dtype, "intermediate_data_type": arithmetic, "compute_data_type": arithmetic}
    graph = cudnn.pygraph(**types, **settings)

    def given(name: str) -> Any:
        shape = getattr(request, name)
        return graph.tensor(name=name, dim=list(shape), stride=_strides(name, shape), data_type=dtype)

    window: dict[str, Any] = {
        "pre_padding": [before for before, _ in request.padding],
        "post_padding": [after for _, after in request.padding],
        "stride": list(request.stride),
        "dilation": list(request.dilation),
    }
    if request.operation == "forward":
        x, W = given("x"), given("W")
        made = y = graph.conv_fprop(image=x, weight=W, **window)
        result = "y"
    elif request.operation == "input_gradient":
        y, W = given("y"), given("W")
        made = x = graph.conv_dgrad(loss=y, filter=W, **window)
        result = "x"
    else:
        x, y = given("x"), given("y")
        made = W = graph.conv_wgrad(image=x, loss=y, **window)
        result = "W"
    shape = getattr(request, result)
    made.set_dim(list(shape))
    made.set_stride(_strides(result, shape))
    made.set_data_type(dtype)
    made.set_output(True)
    return graph, (x, W, y)


def _strides(name: str, shape: Shape) -> list[int]:
    """Return the strides in elements: weights lie as they are indexed, images (N, C, H, W) as (C, H, W, N)."""
    if name == "W":
        return [math.prod(shape[axis + 1 :]) for axis in range(4)]
    N, _, H, W = shape
    return [1, H * W * N, W * N, N]
