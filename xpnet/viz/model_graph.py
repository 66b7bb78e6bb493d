"""A network drawn from its input down to its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from xpnet.functional.checks import check_positive_int
from xpnet.layers import Identity, Layer
from xpnet.layers.summary import Row
from xpnet.optional import require
from xpnet.viz._drawing import axes_for
from xpnet.viz._recording import is_branching, is_chain, joined

__all__ = ["plot_model"]

WIDTH, HEIGHT = 2.1, 0.85  # of a box with the space around it, in inches
BOX = 0.72  # share of the height that the box itself takes
COLOURS = {
    "Conv": "#cfe2f3",
    "Separable": "#cfe2f3",
    "Dense": "#d9ead3",
    "Pool": "#f4cccc",
    "Norm": "#fff2cc",
    "Dropout": "#eeeeee",
}

Position = tuple[float, float]  # columns to the right and rows down


@dataclasses.dataclass
class _Block:
    """A part of the drawing: one box, a line (no text), blocks below each other, or blocks side by side."""

    text: str = ""
    kind: str = ""
    below: Sequence[_Block] = ()
    beside: Sequence[_Block] = ()

    @property
    def width(self) -> int:
        """Columns it takes."""
        return max((b.width for b in self.below), default=1) if not self.beside else sum(b.width for b in self.beside)

    @property
    def height(self) -> int:
        """Rows it takes; where branches meet there is one more."""
        if self.beside:
            return max(b.height for b in self.beside) + 1
        return sum(b.height for b in self.below) if self.below else 1


def plot_model(
    model: Layer, input_shape: tuple[int, ...] | None = None, *, depth: int | None = None, ax: Any = None
) -> Any:
    """Draw a model: a box for each layer with its path, kind, output shape and parameters; branches side by side.

    Parameters
    ----------
    model : Layer
        Built or not; not changed.
    input_shape : tuple of int, optional
        Without the batch; by default the one the model was built for.
    depth : int, optional
        Draw layers made of layers that are nested deeper as one box; 1 shows the direct children of the model only.
        By default all is drawn.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    StateError
        If the model is not built and no input shape is given.
    ShapeError, ArgumentError
        If the layers do not fit the input or each other, or depth is below 1.

    Examples
    --------
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_model
    >>> figure = plot_model(LeNet(), (1, 28, 28))
    >>> print(figure.axes[0].texts[1].get_text())
    conv1
    Conv2D
    6 x 24 x 24, 156 parameters
    """
    if depth is not None:
        check_positive_int("plot_model", "depth", depth)
    summary = model.summary(input_shape)
    rows = {row.path: row for row in summary.rows}
    first = _Block(f"input\n{_sizes(summary.input_shape)}", "input")
    whole = _Block(below=[first, _block(model, "", summary.input_shape, rows, depth)])
    size = (WIDTH * whole.width, HEIGHT * whole.height)
    (axes,) = axes_for("plot_model", ax, 1, "for the drawing", size=size)
    axes.set_xlim(0, whole.width)
    axes.set_ylim(whole.height, 0)
    axes.axis("off")
    _Pen(axes).draw(whole, 0.0, 0.0, None)
    axes.set_title(f"{summary.name}\n{summary.parameters:,} parameters", fontsize="medium")
    return axes.figure


def _block(layer: Layer, path: str, shape: tuple[int, ...], rows: dict[str, Row], depth: int | None) -> _Block:
    whole = depth is not None and path.count(".") + 1 >= depth and path
    if is_chain(layer) and not whole:
        parts = []
        for name, child in layer.children().items():
            parts.append(_block(child, joined(path, name), shape, rows, depth))
            shape = child.output_shape(shape)
        return _Block(below=parts)
    if is_branching(layer) and not whole:
        symbol = layer.symbol  # type: ignore[attr-defined]
        row = rows[joined(path, symbol)]
        merge = f"{symbol}  {_sizes(row.output_shape)}"
        return _Block(
            merge,
            row.kind,
            beside=[_block(c, joined(path, n), shape, rows, depth) for n, c in layer.children().items()],
        )
    if type(layer) is Identity:
        return _Block()
    kind = type(layer).__name__
    own = path or kind
    parameters = sum(row.parameters for p, row in rows.items() if p == own or p.startswith(f"{path}."))
    told = f", {parameters:,} parameters" if parameters else ""
    return _Block(f"{path + chr(10) if path else ''}{kind}\n{_sizes(layer.output_shape(shape))}{told}", kind)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


class _Pen:
    """Draws blocks, each connected to what comes before it."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self._patches = require("matplotlib.patches", "plotting")

    def draw(self, block: _Block, left: float, top: float, source: Position | None) -> Position:
        """Draw a block whose columns begin at `left`; return where the next one connects."""
        centre = left + block.width / 2
        if block.beside:
            return self._branches(block, left, top, source)
        if block.below:
            for part in block.below:
                source = self.draw(part, centre - part.width / 2, top, source)
                top += part.height
            assert source is not None
            return source
        if not block.text:  # the input itself
            self._line(source, (centre, top), "-")
            self._line((centre, top), (centre, top + 1), "-")
            return centre, top + 1
        edge = (1 - BOX) / 2
        self._line(source, (centre, top + edge))
        self._box(block, centre, top + 0.5, 0.9, BOX)
        return centre, top + 1 - edge

    def _branches(self, block: _Block, left: float, top: float, source: Position | None) -> Position:
        centre, meet = left + block.width / 2, top + block.height - 0.5
        for branch in block.beside:
            end = self.draw(branch, left, top, source)
            corner = (left + branch.width / 2, meet - 0.5)  # straight down first, so as not to cross a longer branch
            self._line(end, corner, "-")
            self._line(corner, (centre, meet - 0.2))
            left += branch.width
        self._box(block, centre, meet, 0.6, 0.4)
        return centre, meet + 0.2

    def _box(self, block: _Block, x: float, y: float, width: float, height: float) -> None:
        colour = next((c for part, c in COLOURS.items() if part in block.kind), "white")
        self.axes.add_patch(
            self._patches.Rectangle((x - width / 2, y - height / 2), width, height, facecolor=colour, edgecolor="0.3")
        )
        self.axes.text(x, y, block.text, ha="center", va="center", fontsize=7)

    def _line(self, start: Position | None, end: Position, style: str = "-|>") -> None:
        if start is not None and start != end:
            patch = self._patches.FancyArrowPatch(
                start, end, arrowstyle=style, mutation_scale=7, shrinkA=0, shrinkB=0, color="0.3", linewidth=0.8
            )
            self.axes.add_patch(patch)
