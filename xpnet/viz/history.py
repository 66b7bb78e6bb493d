"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.training.history import History
from xpnet.viz._drawing import axes_for

__all__ = ["plot_history"]

LABELS = {"loss": "loss", "accuracy": "accuracy"}


def plot_history(history: History, *, ax: Sequence[Any] | None = None, title: str | None = None) -> Any:
    """Draw loss and accuracy over the epochs, of training and validation.

    Parameters
    ----------
    history : History
    ax : sequence of matplotlib axes, optional
        One for the loss and, if there are accuracies, one for the accuracy; by default a new figure.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the history is empty or there are too few axes.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> from xpnet.training import Epoch, History
    >>> from xpnet.viz import plot_history
    >>> history = History([Epoch(i, 1 / i, 1 - 0.5 / i, None, None, 0.1, 1.0, 1.0) for i in (1, 2, 3)])
    >>> len(plot_history(history).axes)
    2
    """
    if not len(history):
        raise ValueError("plot_history: the history holds no epoch yet")
    names = [name for name in LABELS if any(v is not None for v in history[name])]
    drawn = axes_for("plot_history", ax, len(names), f"one each for {' and '.join(names)}", size=(5.0, 3.6))
    for name, axes in zip(names, drawn, strict=True):
        for series, label, style in ((name, "training", "o-"), (f"validation_{name}", "validation", "s--")):
            points = [(e, v) for e, v in zip(history["epoch"], history[series], strict=True) if v is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=label, markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(LABELS[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure = drawn[0].figure
    if title:
        figure.suptitle(title)
    return figure
