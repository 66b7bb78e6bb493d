"""Watching a number in memory, awake, without the interpreter's lock."""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpnet.kernels.compiled._compile import Kernel

_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "i686"))


@intrinsic
def _now(typing_context: Any, flag: Any) -> Any:
    """Return the first element of an array as another thread has left it, read anew each time."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        bits = builder.load_atomic(builder.bitcast(data, ir.IntType(64).as_pointer()), "acquire", 8)
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(flag), emit


@intrinsic
def _pause(typing_context: Any) -> Any:
    """Let the processor rest for some dozen cycles, where it has an instruction for that."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _X86:
            name, kind = "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), emit


def _watch(flag: Any, seen: float, tries: int, more: int) -> None:
    """Return when the flag is no longer what was `seen`, and `more` pauses have passed, or after so many `tries`."""
    for _ in range(tries):
        if _now(flag) != seen:
            for _ in range(more):
                _pause()
            break
        _pause()


watch = Kernel(_watch, lambda T: (T, T.dtype, types.int64, types.int64), dtypes="d")
