"""Writing a figure to a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xpnet.files import atomic_write
from xpnet.optional import require

__all__ = ["check_figure_path", "save_figure"]


def check_figure_path(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's ending names, before the work for the figure is done.

    Raises
    ------
    ValueError
        If matplotlib cannot write such files.
    """
    kinds = require("matplotlib.backend_bases", "plotting").FigureCanvasBase.get_supported_filetypes()
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise ValueError(
            f"{path}: no kind of figure that can be written; its name may end in {', '.join(sorted(kinds))}"
        )
    return kind


def save_figure(figure: Any, path: str | os.PathLike[str], *, dpi: int = 120) -> None:
    """Write a figure; the file appears whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or path
        Its ending names the format: png, pdf, svg and more. Its folder is made if need be.
    dpi : int, default 120
        Dots per inch, for formats of pixels.

    Raises
    ------
    ValueError
        If the ending names no format.
    """
    kind = check_figure_path(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=dpi)
