"""What a run shows: a bar while an epoch lasts (on a terminal), and a line when it is over."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from xpnet import backend
from xpnet.backend.memory import device_memory
from xpnet.text import in_bytes
from xpnet.training.evaluation import Evaluation
from xpnet.training.history import Epoch

__all__ = ["ProgressBar", "epoch_line", "memory_use", "skipped"]

LOOK = "{desc} |{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}"
INTERVAL = 0.25  # seconds between two readings of loss and accuracy: each waits for the device


class ProgressBar:
    """A bar with loss, accuracy and images per second; nothing where stderr is no terminal or tqdm is missing."""

    def __init__(self, description: str, batches: int, *, done: int = 0, show: bool) -> None:
        self._bar: Any = None
        self._next = 0.0
        if show and sys.stderr is not None and sys.stderr.isatty():  # None after 2>&-
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            # sizes given, because tqdm shows nothing where a terminal says it is 0 wide (docker, pty)
            columns, rows = shutil.get_terminal_size()
            size = {"ncols": columns, "nrows": rows}
            self._bar = tqdm(total=batches, initial=done, desc=description, leave=False, bar_format=LOOK, **size)

    def due(self) -> bool:
        """Whether it is time to read the numbers and show them."""
        return self._bar is not None and time.perf_counter() >= self._next

    def advance(self) -> None:
        """Count a batch."""
        if self._bar is not None:
            self._bar.update(1)

    def show(self, means: Evaluation, images_per_second: float, *more: str) -> None:
        """Show the means so far, and what else there is to say."""
        self._next = time.perf_counter() + INTERVAL
        parts = [f"loss {means.loss:.4f}"]
        if means.accuracy is not None:
            parts.append(f"accuracy {means.accuracy:.4f}")
        parts.append(f"{images_per_second:,.0f} images/s")
        self._bar.set_postfix_str("  ".join([*parts, *filter(None, more)]))

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def epoch_line(epoch: Epoch, epochs: int, previous: Epoch | None) -> str:
    """Return the line that sums up an epoch: losses (and their change), accuracies, time.

    Examples
    --------
    >>> from xpnet.training import Epoch
    >>> from xpnet.training.progress import epoch_line
    >>> print(epoch_line(Epoch(1, 0.5, 0.8, 0.4, 0.9, 0.001, 2.0, 5000.0), 10, None))
    epoch  1/10  loss 0.5000  accuracy 0.8000  validation loss 0.4000  accuracy 0.9000  2.0 s  5,000 images/s
    """
    change = "" if previous is None else f" ({epoch.loss - previous.loss:+.4f})"
    parts = [f"epoch {epoch.epoch:{len(str(epochs))}d}/{epochs}", f"loss {epoch.loss:.4f}{change}"]
    if epoch.accuracy is not None:
        parts.append(f"accuracy {epoch.accuracy:.4f}")
    if epoch.validation_loss is not None:
        parts.append(f"validation loss {epoch.validation_loss:.4f}")
    if epoch.validation_accuracy is not None:
        parts.append(f"accuracy {epoch.validation_accuracy:.4f}")
    parts += [f"{epoch.seconds:.1f} s", f"{epoch.images_per_second:,.0f} images/s", skipped(epoch.skipped_steps)]
    return "  ".join(filter(None, parts))


def memory_use() -> str:
    """Say how much of the selected backend's GPU its arrays take; nothing where it is no GPU."""
    chosen = backend.get()
    memory = device_memory(chosen.xp, chosen.device)
    return "" if memory is None else f"{in_bytes(memory.used)} of {in_bytes(memory.total)}"


def skipped(steps: int) -> str:
    """Say how many steps of an epoch were left out; nothing if none was.

    Examples
    --------
    >>> from xpnet.training.progress import skipped
    >>> skipped(2)
    '2 steps skipped'
    """
    return f"{steps} step{'s' * (steps > 1)} skipped" if steps else ""
