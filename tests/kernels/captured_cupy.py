"""CUDA graphs without a GPU: what is done to arrays while a stream is captured is undone, and done again by a launch.

A launch runs exactly what was recorded, on the addresses and numbers of the recording. What would copy from the host,
wait for the device, or ask cuBLAS is refused. Memory comes from pools that give the latest freed block first, spoilt:
an operation that was recorded with an address keeps nothing alive, so it meets whatever lies there by then.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from tests.kernels.emulated_cupy import CREATING, Emulator, standing_in
from xpnet.training import captured

# --- memory --------------------------------------------------------------------------------------


class Pool:
    """Stands in for cupy.cuda.MemoryPool, without the splitting of blocks. As there, what is free outlives the pool."""

    def __init__(self, allocator: Callable[[int], Any] | None = None) -> None:
        self.allocator = allocator
        self.free: dict[int, list[tuple[np.ndarray, Any]]] = {}  # block and what holds it below
        self.used = 0
        never_ending.append(self.free)

    def malloc(self, size: int) -> Memory:
        free = self.free.setdefault(size, [])
        self.used += size
        if free:
            return Memory(self, *free.pop())
        if self.allocator is None:
            return Memory(self, np.empty(size, np.uint8), None)
        below = self.allocator(size)
        return Memory(self, below.block, below)

    def free_all_blocks(self) -> None:
        self.free.clear()

    def total_bytes(self) -> int:
        return self.used + sum(size * len(blocks) for size, blocks in self.free.items())


class Memory:
    """A block in use; spoilt and free when nobody refers to it."""

    def __init__(self, pool: Pool, block: np.ndarray, below: Any) -> None:
        self.pool, self.block, self.below = weakref.ref(pool), block, below

    def __del__(self) -> None:
        self.block[:] = 0xFF  # NaN, or -1
        pool = self.pool()
        if pool is not None:
            pool.used -= self.block.size
            pool.free.setdefault(self.block.size, []).append((self.block, self.below))


never_ending: list[Any] = []
everybody = Pool()
allocators = [everybody.malloc]


@contextlib.contextmanager
def using_allocator(allocator: Callable[[int], Memory]) -> Iterator[None]:
    allocators.append(allocator)
    try:
        yield
    finally:
        allocators.pop()


def allocated(like: np.ndarray) -> Recorded:
    """Return memory of the current pool with the values of an array, lying as it does."""
    memory = allocators[-1](max(1, -(-like.nbytes // 512)) * 512)
    strides = np.empty_like(like).strides  # without the gaps
    made = np.ndarray.__new__(Recorded, like.shape, like.dtype, memory.block, 0, strides)
    made.memory = memory
    plain(made)[...] = like
    return made


# --- recording -----------------------------------------------------------------------------------


class Tape:
    """What is recorded between `begin` and `end`, and what it has written over."""

    def __init__(self) -> None:
        self.operations: list[Callable[[], object]] | None = None
        self.before: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.recorded = self.launched = 0

    @property
    def running(self) -> bool:
        return self.operations is not None

    def begin(self) -> None:
        assert not self.running
        self.operations, self.before = [], {}

    def end(self) -> list[Callable[[], object]]:
        """Return the operations; all arrays are again what they were."""
        operations, self.operations = self.operations, None
        for block, values in self.before.values():
            block[...] = values
        self.recorded += 1
        return operations

    def do(self, operation: Callable[[], object], *written: Recorded) -> None:
        """Run an operation that writes to some arrays and makes none."""
        if self.running:
            for array in written:
                block = array.memory.block
                self.before.setdefault(id(block), (block, block.copy()))
            self.operations.append(operation)
        operation()

    def make(self, operation: Callable[[], Any]) -> Any:
        """Return the array that an operation makes; a launch makes it again in the same place."""
        result = operation()
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        made = allocated(np.asarray(result))
        if self.running:
            place = plain(made)
            self.operations.append(lambda: np.copyto(place, operation()))
        return made

    def refuse(self, what: str) -> None:
        if self.running:
            raise RuntimeError(f"{what} during capture")


tape = Tape()


def plain(a: Any) -> Any:
    """The same address as an array of NumPy, which keeps nothing; also of the arrays in a tuple or list."""
    if isinstance(a, (tuple, list)):
        return type(a)(plain(item) for item in a)
    if not isinstance(a, Recorded):
        return a
    block = a.memory.block
    offset = a.__array_interface__["data"][0] - block.__array_interface__["data"][0]
    return np.ndarray(a.shape, a.dtype, block, offset, a.strides)


def seen(operation: Callable[[], Any], arrays: list[Recorded]) -> Any:
    """Return what an operation makes of arrays: a view of one of them, or another array."""
    result = operation()
    if isinstance(result, np.ndarray):
        for array in arrays:
            if np.may_share_memory(result, array):
                view = result.view(Recorded)
                view.memory = array.memory
                return view
    return tape.make(operation)


def recorded_in(values: Any) -> list[Recorded]:
    """The recorded arrays among arguments."""
    if isinstance(values, (tuple, list)):
        return [array for value in values for array in recorded_in(value)]
    return [values] if isinstance(values, Recorded) else []


class Recorded(np.ndarray):
    """An array whose operations a tape notes."""

    memory: Memory

    def __array_finalize__(self, obj):
        if isinstance(obj, Recorded):
            self.memory = obj.memory

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if ufunc is np.matmul and tape.running:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        given, run = plain(inputs), getattr(ufunc, method)
        if out is None:
            return tape.make(lambda: run(*given, **settings))
        places = plain(out)
        tape.do(lambda: run(*given, out=places, **settings), *out)
        return out[0]

    def __array_function__(self, function, kinds, args, settings):
        if function is np.concatenate and len(args[0]) > 8:
            tape.refuse("copying addresses from the host")
        given, named = plain(args), {name: plain(value) for name, value in settings.items()}
        return seen(lambda: function(*given, **named), recorded_in(args))

    def reshape(self, *shape, **settings):
        place = plain(self)
        return seen(lambda: place.reshape(*shape, **settings), [self])

    def astype(self, *args, **settings):
        place = plain(self)
        return seen(lambda: place.astype(*args, **settings), [self])

    def copy(self, *args, **settings):
        place = plain(self)
        return tape.make(lambda: place.copy(*args, **settings))

    def __getitem__(self, index):
        indices = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(i, np.ndarray) or i is Ellipsis for i in indices):
            index = (*indices, ...)  # one element is an array too
        place, given = plain(self), plain(index)
        return seen(lambda: place[given], [self])

    def __setitem__(self, index, value):
        place, at, given = plain(self), plain(index), plain(value)
        tape.do(lambda: place.__setitem__(at, given), self)

    def __bool__(self):
        tape.refuse("waiting for a value")
        return bool(plain(self))

    def __int__(self):
        tape.refuse("waiting for a value")
        return int(plain(self))

    def __index__(self):
        tape.refuse("waiting for a value")
        return plain(self).__index__()

    def __float__(self):
        tape.refuse("waiting for a value")
        return float(plain(self))


def creator(name: str) -> Callable[..., Any]:
    """NumPy's function that makes an array, for recorded ones."""
    make = getattr(np, name)

    def create(*args: Any, device: Any = None, copy: bool | None = None, **settings: Any) -> Recorded:
        if name == "asarray" and isinstance(args[0], Recorded):
            dtype = settings.get("dtype") or args[0].dtype
            return args[0].astype(dtype, copy=bool(copy))
        if name == "asarray":
            tape.refuse("copying from the host")
            return allocated(np.array(args[0], **settings))
        given = plain(args)
        return tape.make(lambda: make(*given, **settings))

    return create


def contiguous(a: Recorded, dtype: Any = None) -> Recorded:
    place = plain(a)
    return seen(lambda: np.ascontiguousarray(place, dtype=dtype).reshape(place.shape), [a])


class Stream:
    """A stream: all of it happens at once, so what is left to check is what may be captured."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.may_capture = non_blocking

    def __enter__(self):
        streams.append(self)
        return self

    def __exit__(self, *exception):
        assert streams.pop() is self

    def begin_capture(self):
        assert self.may_capture
        assert streams[-1] is self
        tape.begin()

    def end_capture(self):
        operations = tape.end()
        return types.SimpleNamespace(launch=lambda: launch(operations))

    def record(self, event=None):
        assert not tape.running
        return types.SimpleNamespace()

    def wait_event(self, event):
        assert not tape.running


streams = [Stream(null=True)]


def launch(operations: list[Callable[[], object]]) -> None:
    assert not tape.running
    tape.launched += 1
    with np.errstate(all="ignore"):
        for operation in operations:
            operation()


class Capturing(Emulator):
    """The emulator, whose launches a tape notes too."""

    def kernel(self, code, name, options=()):
        run = super().kernel(code, name, options)

        def noted(grid, block, arguments):
            given = plain(arguments)
            tape.do(lambda: run(grid, block, given), *recorded_in(arguments))

        return noted

    def modules(self) -> dict[str, types.ModuleType]:
        modules = super().modules()
        cupy = modules["cupy"]
        for name in CREATING:
            setattr(cupy, name, creator(name))
        cupy.ascontiguousarray = contiguous
        cupy.cuda.Stream, cupy.cuda.get_current_stream = Stream, lambda: streams[-1]
        cupy.cuda.MemoryPool, cupy.cuda.using_allocator = Pool, using_allocator
        cupy.cuda.get_allocator, cupy.cuda.Device = lambda: allocators[-1], contextlib.nullcontext
        cupy.cuda.set_pinned_memory_allocator = lambda allocator: None
        cupy.get_default_pinned_memory_pool = lambda: types.SimpleNamespace(malloc=None)
        return modules


@contextlib.contextmanager
def capturing(emulator: Capturing, dtype: str = "float64") -> Iterator[Tape]:
    """Let the arrays of NumPy's namespace be CuPy's, whose steps can be captured."""
    with standing_in(emulator, creator, dtype), mock.patch.object(captured, "is_cupy_namespace", return_value=True):
        tape.recorded = tape.launched = 0
        try:
            yield tape
        finally:
            assert not tape.running
            assert len(streams) == len(allocators) == 1
