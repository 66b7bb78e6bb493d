"""Reading a pickled dictionary of arrays without unpickling: the opcodes are interpreted here, and nothing is called.

Why not `pickle.Unpickler` with a `find_class` that lets few names through: REDUCE and BUILD then still call those few
with arguments of the file's choosing. `numpy.ndarray` and `numpy.dtype` make arrays of objects and of any size, BUILD
calls any ``__setstate__``, EXT and persistent ids have doors of their own, and a list that holds itself twice, again
and again, is small in the file and endless to whoever walks it. Here a name is never looked up: it is a word that must
be among five. What takes memory is counted before it is made, and what is not needed for a dictionary of arrays (lists,
instances, objects, opcodes unknown) is refused by name. `pickletools.genops`, which splits the bytes into opcodes, is
the standard library's and makes nothing but numbers, strings and bytes as long as they are in the file.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnet.errors import WeightsError

MAX_OPCODES = 20_000  # an array takes about forty; a byte of opcode may make an object of a hundred
MAX_AXES = 8  # of an array; weights of a convolution have four
PROTOCOLS = range(6)

NDARRAY, DTYPE, ENCODE = "numpy.ndarray", "numpy.dtype", "_codecs.encode"
RECONSTRUCT, FROMBUFFER = "numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer"
NAMES = (NDARRAY, DTYPE, ENCODE, RECONSTRUCT, FROMBUFFER)

INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
STRINGS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
LITERALS = frozenset((*INTEGERS, *STRINGS, *BYTES))
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name:
    """A global of the file: the word for it and nothing behind."""

    def __init__(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise WeightsError("a global whose name is no string")
        # NumPy 2 writes numpy._core where NumPy 1 wrote numpy.core
        self.word = re.sub(r"^numpy\.core\.", "numpy._core.", f"{module}.{name}")
        if self.word not in NAMES:
            raise WeightsError(f"it asks for {f'{module}.{name}'[:80]!r}, which no dictionary of arrays needs")


class _DType:
    """A dtype: a real number's code, and the byte order that BUILD tells."""

    def __init__(self, code: Any) -> None:
        if type(code) is not str or not re.fullmatch("f[248]|[iu][1248]", code):
            shown = repr(code[:20]) if type(code) is str else type(code).__name__
            raise WeightsError(f"an array of type {shown}; only real numbers of up to 8 bytes are read")
        self.code, self.order = code, "="


class _Array:
    """An array, empty until BUILD gives its shape and values."""

    values: np.ndarray | None = None


class Interpreter:
    """Runs the opcodes of one file; `result` is what the pickle would have been.

    Memory stays within a few times the file's size: strings and bytes are as long as in the file, `_codecs.encode` and
    arrays draw on a budget of that many bytes, and there are at most `MAX_OPCODES` other objects.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.to_encode = self.for_arrays = len(content)  # bytes that may still be made
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each MARK
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        """Return what the file holds: arrays as `numpy.ndarray` of their own memory, in native byte order.

        Raises
        ------
        WeightsError
            If it is no pickle, is damaged, or holds anything but a dictionary of arrays.
        """
        end = 0
        for name, arg, end in self._opcodes():
            try:
                self._do(name, arg)
            except WeightsError:
                raise
            except (IndexError, KeyError, TypeError, ValueError):  # an empty stack, a memo that is not there, ...
                raise WeightsError(f"a damaged pickle: {name} at byte {end} does not fit what is before it") from None
        if self.below or len(self.stack) != 1 or end + 1 != len(self.content):
            raise WeightsError("a damaged pickle: it does not end with one value")
        return _finished(self.stack[0])

    def _opcodes(self) -> Iterator[tuple[str, Any, int]]:
        found = pickletools.genops(self.content)
        for _ in range(MAX_OPCODES):
            try:
                opcode, arg, position = next(found)
            except StopIteration:
                return
            except (ValueError, Warning) as error:  # old string escapes are a Warning where those are errors
                raise WeightsError(f"no pickle, or a damaged one ({str(error)[:120]})") from None
            yield opcode.name, arg, int(position or 0)
        raise WeightsError(f"a pickle of more than {MAX_OPCODES} opcodes; the book's have a few hundred")

    def _do(self, name: str, arg: Any) -> None:
        stack = self.stack
        if name in LITERALS:
            stack.append(arg)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in TUPLES:
            items = [stack.pop() for _ in range(TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif name == "GLOBAL":
            stack.append(_Name(*arg.split(" ", 1)))
        elif name not in ("STOP", "FRAME"):
            method: Callable[[Any], None] | None = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise WeightsError(f"its opcode {name} makes something other than a dictionary of arrays")
            method(arg)

    def _proto(self, arg: Any) -> None:
        if arg not in PROTOCOLS:
            raise WeightsError(f"a pickle of protocol {arg}; those up to {PROTOCOLS[-1]} are read")

    def _mark(self, arg: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _tuple(self, arg: Any) -> None:
        items = tuple(self._since_mark())
        self.stack.append(items)

    def _empty_dict(self, arg: Any) -> None:
        self.stack.append({})

    def _dict(self, arg: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def _setitem(self, arg: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, arg: Any) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        # a key that is a tuple of tuples of ... could take for ever to hash
        if type(target) is not dict or len(items) % 2 or any(type(key) is not str for key in items[::2]):
            raise WeightsError("it holds more than one dictionary with strings as keys")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _stack_global(self, arg: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_Name(module, name))

    def _reduce(self, arg: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        word = function.word if isinstance(function, _Name) else type(function).__name__
        if type(args) is not tuple:
            raise WeightsError(f"a damaged pickle: the arguments of {word} are no tuple")
        if word == RECONSTRUCT and len(args) == 3 and isinstance(args[0], _Name) and args[0].word == NDARRAY:
            self.stack.append(_Array())
        elif word == DTYPE and len(args) == 3:
            self.stack.append(_DType(args[0]))
        elif word == FROMBUFFER and len(args) in (4, 5):
            array = _Array()
            array.values = self._array(*args)
            self.stack.append(array)
        elif word == ENCODE and len(args) == 2 and type(args[0]) is str and args[1] == "latin1":
            self.to_encode -= len(args[0])
            if self.to_encode < 0:
                raise WeightsError("it asks for more bytes than the file has")
            self.stack.append(args[0].encode("latin1"))
        else:
            raise WeightsError(f"it calls {word} in a way that no dictionary of arrays needs")

    def _build(self, arg: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple:
            raise WeightsError("a damaged pickle: a state that is no tuple")
        if isinstance(target, _DType) and len(state) in (8, 9) and state[2:5] == (None, None, None):
            if type(state[1]) is not str or state[1] not in ("<", ">", "=", "|"):
                raise WeightsError("a damaged pickle: a dtype without byte order")
            target.order = state[1]
        elif isinstance(target, _Array) and len(state) == 5 and target.values is None:
            _, shape, dtype, fortran, data = state
            target.values = self._array(data, dtype, shape, "F" if fortran is True else "C")
        else:
            raise WeightsError("a damaged pickle: a state for something that takes none")

    def _array(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
        if not isinstance(dtype, _DType) or type(data) not in (bytes, bytearray):
            raise WeightsError("an array of objects, or without a type; only arrays of numbers are read")
        if not _are_sizes(shape, len(self.content)):
            raise WeightsError("an array whose shape is larger than the file, or no shape")
        kind = np.dtype(f"{dtype.order}{dtype.code}")
        if math.prod(shape) * kind.itemsize != len(data):
            raise WeightsError(f"an array of shape {shape} and type {kind} with {len(data)} bytes")
        self.for_arrays -= len(data)
        if self.for_arrays < 0:
            raise WeightsError("its arrays hold more than the file")
        flat = np.frombuffer(data, kind)
        if order == "K" and _are_sizes(axes, len(shape)) and sorted(axes) == list(range(len(shape))):
            array = flat.reshape(shape).transpose(axes)
        elif order in ("C", "F") and axes is None:
            array = flat.reshape(shape, order=order)
        else:
            raise WeightsError("a damaged pickle: an array in no known order")
        return array.astype(kind.newbyteorder("="), order="C", copy=True)


def _are_sizes(value: Any, limit: int) -> bool:
    """Tell whether this is a short tuple of ints from 0 to `limit`.

    Looked at one by one, first: the product of numbers of a million digits, or an order of tuples of tuples, would take
    long.
    """
    return type(value) is tuple and len(value) <= MAX_AXES and all(type(n) is int and 0 <= n <= limit for n in value)


def _finished(value: Any) -> dict[str, np.ndarray]:
    if type(value) is not dict:
        raise WeightsError("it holds no dictionary; the book's files hold one of arrays by name")
    arrays = {}
    for key, array in value.items():
        if not isinstance(array, _Array) or array.values is None:
            raise WeightsError(f"its entry {key[:40]!r} is no array")
        arrays[key] = array.values
    return arrays
