"""A stand-in for cuDNN's Python front end: graphs that compute, by loops over taps, on the memory they are given.

Tensors are found by pointer, shape and strides alone, as cuDNN finds them, so what is said of them must be true.
"""

from __future__ import annotations

import ctypes
import enum
import types

import numpy as np

data_type = enum.Enum("data_type", "FLOAT DOUBLE HALF BFLOAT16")
numerical_note = enum.Enum(
    "numerical_note", "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION NONDETERMINISTIC"
)
heur_mode = enum.Enum("heur_mode", "A FALLBACK")
ELEMENTS = {data_type.FLOAT: np.float32, data_type.DOUBLE: np.float64, data_type.HALF: np.float16}
WORKSPACE = 100


class NotSupportedError(Exception):
    """The front end's cudnnGraphNotSupportedError, which is no RuntimeError."""


class Tensor:
    def __init__(self, dim=None, stride=None, dtype=None):
        self.dim, self.stride, self.dtype, self.is_output = dim, stride, dtype, False

    def set_dim(self, dim):
        self.dim = dim

    def set_stride(self, stride):
        self.stride = stride

    def set_data_type(self, dtype):
        self.dtype = dtype

    def set_output(self, is_output):
        self.is_output = is_output

    def at(self, pointer):
        """The memory there as an array."""
        assert pointer % 16 == 0
        element = np.dtype(ELEMENTS[self.dtype])
        last = sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * ((last + 1) * element.itemsize)).from_address(pointer)
        flat = np.frombuffer(memory, element)
        return np.lib.stride_tricks.as_strided(flat, self.dim, [s * element.itemsize for s in self.stride])


class FakeCudnn(types.ModuleType):
    """The module `cudnn`, with notes of how it was used."""

    def __init__(self):
        super().__init__("cudnn")
        self.data_type, self.numerical_note, self.heur_mode = data_type, numerical_note, heur_mode
        self.cudnnGraphNotSupportedError = NotSupportedError
        self.graphs, self.executed, self.streams, self.unsupported = [], [], [], None
        self.pygraph = lambda **settings: Graph(self, settings)

    def backend_version(self):
        return 92800

    def create_handle(self):
        return "handle"

    def set_stream(self, handle, stream):
        assert handle == "handle"
        self.streams.append(stream)


class Graph:
    def __init__(self, module, settings):
        self.module, self.settings, self.stages = module, settings, []
        self.deselected, self.limit = set(), None
        module.graphs.append(self)

    def tensor(self, name, dim, stride, data_type):
        return Tensor(dim, stride, data_type)

    def conv_fprop(self, image, weight, **window):
        return self._node("forward", image, weight, None, window)

    def conv_dgrad(self, loss, filter, **window):
        return self._node("input_gradient", None, filter, loss, window)

    def conv_wgrad(self, image, loss, **window):
        return self._node("weight_gradient", image, None, loss, window)

    def _node(self, operation, x, W, y, window):
        self.operation, self.window, made = operation, window, Tensor()
        self.x, self.W, self.y = (made if t is None else t for t in (x, W, y))
        self.made = made
        return made

    def __getattr__(self, stage):
        if stage not in ("validate", "build_operation_graph", "check_support", "build_plans"):
            raise AttributeError(stage)

        def enter():
            self.stages.append(stage)
            assert self.made.is_output
            if stage == "check_support" and self.module.unsupported is not None:
                raise self.module.unsupported

        return enter

    def create_execution_plans(self, modes):
        assert modes == [heur_mode.A, heur_mode.FALLBACK]
        self.stages.append("create_execution_plans")

    def deselect_numeric_notes(self, notes):
        assert self.stages[-1] == "create_execution_plans"  # earlier it is forgotten
        self.deselected |= set(notes)

    def deselect_workspace_greater_than(self, limit):
        self.limit = limit

    def get_workspace_size(self):
        return WORKSPACE

    def execute(self, pointers, workspace, handle):
        assert self.stages[-1] == "build_plans"
        assert handle == "handle"
        assert type(workspace) is int
        (ctypes.c_char * WORKSPACE).from_address(workspace)[:] = b"\xff" * WORKSPACE  # it is ours
        x, W, y = (t.at(pointers[t]) for t in (self.x, self.W, self.y))
        self.module.executed.append(self.operation)
        result = {"forward": y, "input_gradient": x, "weight_gradient": W}[self.operation]
        result[...] = 0  # in place of what was there
        result[...] = self._convolve(x.astype(float), W.astype(float), y.astype(float))

    def _convolve(self, x, W, y):
        (top, left), (bottom, right) = self.window["pre_padding"], self.window["post_padding"]
        (sh, sw), (dh, dw) = self.window["stride"], self.window["dilation"]
        F, channels, KH, KW = W.shape
        N, C, H, Wd = x.shape
        G, OH, OW = C // channels, y.shape[2], y.shape[3]
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        assert (padded.shape[2] - dh * (KH - 1) - 1) // sh + 1 == OH
        assert (padded.shape[3] - dw * (KW - 1) - 1) // sw + 1 == OW
        weights, outputs = W.reshape(G, F // G, channels, KH, KW), y.reshape(N, G, F // G, OH, OW)
        made = {"forward": np.zeros_like(outputs), "input_gradient": np.zeros_like(padded),
                "weight_gradient": np.zeros_like(weights)}[self.operation]  # fmt: skip
        for i in range(KH):
            for j in range(KW):
                place = (
                    ...,
                    slice(i * dh, i * dh + sh * (OH - 1) + 1, sh),
                    slice(j * dw, j * dw + sw * (OW - 1) + 1, sw),
                )
                seen = padded[place].reshape(N, G, channels, OH, OW)
                if self.operation == "forward":
                    made += np.einsum("gfc,ngchw->ngfhw", weights[..., i, j], seen)
                elif self.operation == "weight_gradient":
                    made[..., i, j] = np.einsum("ngfhw,ngchw->gfc", outputs, seen)
                else:
                    part = np.einsum("gfc,ngfhw->ngchw", weights[..., i, j], outputs)
                    made[place] += part.reshape(N, C, OH, OW)
        if self.operation == "input_gradient":
            return made[:, :, top : top + H, left : left + Wd]
        return made.reshape(y.shape if self.operation == "forward" else W.shape)
