"""Static geometry of a window that slides over an image: kernel, stride, padding, dilation, output size.

Everything here is plain Python integers; no array is touched.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpnet.errors import ArgumentError, ShapeError

__all__ = [
    "Padding",
    "Pair",
    "Tap",
    "Window",
    "make_transposed_window",
    "make_window",
    "output_size",
    "pair",
    "resolve_padding",
]

Pair = tuple[int, int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

PADDING_FORMS = "an int, (ph, pw), ((top, bottom), (left, right)), 'valid', 'same' or 'full'"


FEW = 64  # taps that a window keeps, at most
HALVING = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))  # kernel, stride, padding, dilation


class _Sizes(NamedTuple):
    input: Pair  # (H, W)
    output: Pair  # (OH, OW)
    kernel: Pair  # (KH, KW)
    stride: Pair
    padding: tuple[Pair, Pair]  # ((top, bottom), (left, right))
    dilation: Pair


class Window(_Sizes):
    """Where a kernel of size ``kernel`` lands on an image of size ``input``.

    Tap ``(i, j)`` of output pixel ``(oh, ow)`` reads the input at row
    ``oh*stride[0] - padding[0][0] + i*dilation[0]`` (columns alike).

    What is asked of it in each step is kept, since a layer's window is the same one in all of them.
    """

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel reads just the input pixel at its own place."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.input == self.output

    def taps(self, rows: slice | None = None, columns: slice | None = None) -> tuple[Tap, ...]:
        """Return the taps ``(i, j)`` of the kernel with the pixels they pair, for a block of the output.

        Pixels that fall into the padding are left out, so nobody needs a padded copy of the image.
        """
        if rows is None and columns is None and self.kernel[0] * self.kernel[1] <= FEW:
            return self._few_taps
        return self._taps(rows or slice(0, self.output[0]), columns or slice(0, self.output[1]))

    @functools.cached_property
    def _few_taps(self) -> tuple[Tap, ...]:
        return self._taps(slice(0, self.output[0]), slice(0, self.output[1]))

    def _taps(self, rows: slice, columns: slice) -> tuple[Tap, ...]:
        across = [self._along(1, j, columns) for j in range(self.kernel[1])]
        down = [self._along(0, i, rows) for i in range(self.kernel[0])]
        return tuple(
            Tap(i, j, out_rows, out_columns, in_rows, in_columns)
            for i, (out_rows, in_rows) in enumerate(down)
            for j, (out_columns, in_columns) in enumerate(across)
        )

    def _along(self, axis: int, tap: int, block: slice) -> tuple[slice, slice]:
        """Return the outputs of `block` (counted from its start) whose `tap` is inside, and what it reads."""
        step, size = self.stride[axis], self.input[axis]
        offset = tap * self.dilation[axis] - self.padding[axis][0]
        first = max(block.start, -(offset // step))
        last = min(block.stop, (size - 1 - offset) // step + 1)
        if last <= first:
            return slice(0, 0), slice(0, 0)
        start = first * step + offset
        stop = (last - 1) * step + offset + 1
        return slice(first - block.start, last - block.start), slice(start, stop, step)

    @functools.cached_property
    def is_apart(self) -> bool:
        """Whether no pixel is read by two windows."""
        return all(s >= d * (k - 1) + 1 for s, k, d in zip(self.stride, self.kernel, self.dilation, strict=True))

    @functools.cached_property
    def overhangs(self) -> bool:
        """Whether the last window reaches beyond image and padding, as ceil_mode lets it."""
        return any(
            (o - 1) * s + d * (k - 1) >= n + sum(p)
            for n, o, k, s, p, d in zip(
                self.input, self.output, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )

    def padded(self) -> Window:
        """Return the same window over the image with its padding made part of it."""
        (top, bottom), (left, right) = self.padding
        size = self.input[0] + top + bottom, self.input[1] + left + right
        return self._replace(input=size, padding=((0, 0), (0, 0)))

    def tap_counts(self, axis: int) -> list[int]:
        """Return, for each output along an axis, how many taps land on the image and not on padding."""
        counts = [0] * self.output[axis]
        for tap in range(self.kernel[axis]):
            inside, _ = self._along(axis, tap, slice(0, self.output[axis]))
            for o in range(inside.start, inside.stop):
                counts[o] += 1
        return counts

    @functools.cached_property
    def is_halving(self) -> bool:
        """Whether windows are 2x2 pixels side by side, all of them inside the image."""
        return self[2:] == HALVING and not self.overhangs


class Tap(NamedTuple):
    """One element of the kernel: which outputs of a block it serves, and the inputs it reads for them."""

    i: int
    j: int
    out_rows: slice
    out_columns: slice
    in_rows: slice
    in_columns: slice


def pair(operation: str, name: str, value: Any, minimum: int = 1) -> Pair:
    """Turn an int or a pair of ints into a pair, refusing anything else."""
    if isinstance(value, tuple) and len(value) == 2:  # what layers give, and shapes of torch: without microseconds
        first, second = value
        if type(first) is type(second) is int and first >= minimum <= second:
            return first, second
    values = (value, value) if _is_int(value) else value
    if not (isinstance(values, Sequence) and len(values) == 2 and all(_is_int(v) for v in values)):
        raise ArgumentError(operation, f"{name} must be an int or a pair of ints, got {value!r}")
    if min(values) < minimum:
        raise ArgumentError(operation, f"{name} must be at least {minimum}, got {value!r}")
    return int(values[0]), int(values[1])


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def resolve_padding(
    operation: str, padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """Turn any accepted form of padding into ``((top, bottom), (left, right))``.

    ``"valid"`` is none; ``"same"`` gives ``ceil(size / stride)`` outputs, an odd row going to the
    bottom and an odd column to the right; ``"full"`` lets every window that touches the image count.
    """
    if type(padding) is int and padding >= 0:
        return (padding, padding), (padding, padding)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "full":
            return (extent[0] - 1, extent[0] - 1), (extent[1] - 1, extent[1] - 1)
        if padding == "same":
            top_left = []
            for n, e, s in zip(size, extent, stride, strict=True):
                total = max((-(-n // s) - 1) * s + e - n, 0)
                top_left.append((total // 2, total - total // 2))
            return top_left[0], top_left[1]
        raise ArgumentError(operation, f"padding must be {PADDING_FORMS}, got {padding!r}")
    if isinstance(padding, Sequence) and len(padding) == 2 and all(isinstance(p, Sequence) for p in padding):
        rows = pair(operation, "padding", padding[0], minimum=0)
        columns = pair(operation, "padding", padding[1], minimum=0)
        return rows, columns
    try:
        ph, pw = pair(operation, "padding", padding, minimum=0)
    except ArgumentError as error:
        if "at least" in error.detail:
            raise
        raise ArgumentError(operation, f"padding must be {PADDING_FORMS}, got {padding!r}") from None
    return (ph, ph), (pw, pw)


def output_size(
    operation: str,
    axis: str,
    size: int,
    kernel: int,
    stride: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """floor((size + padding - dilation*(kernel-1) - 1) / stride) + 1, refused with its arithmetic if below 1.

    With `ceil_mode` the ceiling, but no window that would start beyond the image in the padding after it.
    """
    room = size + sum(padding) - dilation * (kernel - 1) - 1
    out = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (out - 1) * stride >= size + padding[0]:
        out -= 1
    if out < 1:
        raise ShapeError(
            operation,
            f"the output would have {out} {axis}: "
            f"{'ceil' if ceil_mode else 'floor'}"
            f"(({size} + {padding[0]} + {padding[1]} - {dilation}*({kernel}-1) - 1) / {stride}) + 1 = {out}; "
            "use a larger image, more padding, or a smaller kernel or dilation",
        )
    return out


def make_window(
    operation: str,
    size: Sequence[int],
    kernel_size: Any,
    stride: Any = 1,
    padding: Padding = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Window:
    """Check the settings of a sliding window against an image of size ``(H, W)``.

    With `ceil_mode` a last window may reach beyond the padding if it starts in the image or the padding before it.

    Raises
    ------
    ArgumentError
        If a setting has a form or value that cannot be used.
    ShapeError
        If the output would be empty.
    """
    settings = (operation, size, kernel_size, stride, padding, dilation, ceil_mode)
    try:
        return _known_window(repr(settings), *settings)  # a step asks for the same ones again and again
    except TypeError:  # a setting is a list, which cannot be looked up
        return _make_window(*settings)


def _make_window(
    operation: str,
    size: Sequence[int],
    kernel_size: Any,
    stride: Any,
    padding: Padding,
    dilation: Any,
    ceil_mode: bool,
) -> Window:
    H, W = int(size[0]), int(size[1])
    kernel = pair(operation, "kernel_size", kernel_size)
    strides = pair(operation, "stride", stride)
    dilations = pair(operation, "dilation", dilation)
    pads = resolve_padding(operation, padding, (H, W), kernel, strides, dilations)
    output = (
        output_size(operation, "rows", H, kernel[0], strides[0], pads[0], dilations[0], ceil_mode),
        output_size(operation, "columns", W, kernel[1], strides[1], pads[1], dilations[1], ceil_mode),
    )
    return Window((H, W), output, kernel, strides, pads, dilations)


@functools.lru_cache(maxsize=1024)
def _known_window(as_written: str, *settings: Any) -> Window:
    """Look up a window; how its settings are written tells (True, 1.0), which is refused, from (1, 1)."""
    return _make_window(*settings)


def make_transposed_window(
    operation: str,
    size: Sequence[int],
    kernel_size: Any,
    stride: Any = 1,
    padding: Padding = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
) -> Window:
    """Return the window of the convolution whose transpose enlarges images of ``size`` (H, W).

    Its output is (H, W), and its input, ``(H - 1)*stride - padding + dilation*(KH - 1) + output_padding + 1``
    rows and columns alike, is what the transposed convolution makes. ``"same"`` makes ``H * stride``.

    Raises
    ------
    ArgumentError
        If a setting has a form or value that cannot be used.
    ShapeError
        If the image made would be empty.
    """
    output = int(size[0]), int(size[1])
    kernel = pair(operation, "kernel_size", kernel_size)
    strides = pair(operation, "stride", stride)
    extra = pair(operation, "output_padding", output_padding, minimum=0)
    dilations = pair(operation, "dilation", dilation)
    same = output[0] * strides[0], output[1] * strides[1]
    pads = resolve_padding(operation, padding, same, kernel, strides, dilations)
    if isinstance(padding, str) and padding == "same":
        if extra != (0, 0):
            raise ArgumentError(operation, f"padding 'same' leaves no room for output_padding, got {output_padding!r}")
        return Window(same, output, kernel, strides, pads, dilations)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ArgumentError(
            operation,
            f"output_padding must be less than stride or dilation, got {output_padding!r} "
            f"with stride {strides} and dilation {dilations}",
        )
    made = []
    for axis, n, k, s, p, d, e in zip(
        ("rows", "columns"), output, kernel, strides, pads, dilations, extra, strict=True
    ):
        out = (n - 1) * s - sum(p) + d * (k - 1) + e + 1
        if out < 1:
            raise ShapeError(
                operation,
                f"the output would have {out} {axis}: ({n} - 1)*{s} - {p[0]} - {p[1]} + {d}*({k}-1) + {e} + 1 = {out}; "
                "use a larger image, kernel, stride or dilation, or less padding",
            )
        made.append(out)
    return Window((made[0], made[1]), output, kernel, strides, pads, dilations)
