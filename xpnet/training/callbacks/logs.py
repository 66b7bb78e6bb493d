"""A run on record: a table or JSON lines that other programs read, and TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.errors import MissingDependencyError
from xpnet.files import atomic_write
from xpnet.text import as_json
from xpnet.training.callbacks.base import Callback
from xpnet.training.history import Epoch

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

__all__ = ["CSVLog", "JSONLinesLog", "TensorBoard"]


class _Log(Callback):
    """A text file with a line for each epoch.

    It is begun anew from the history with each call of `fit`, so a resumed run leaves out no line and has
    none twice; then each epoch is appended.
    """

    writes = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def _head(self, trainer: Trainer) -> str:
        return ""

    def _line(self, epoch: Epoch) -> str:
        raise NotImplementedError(f"{type(self).__name__} must define _line(epoch)")

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Write the epochs there have been."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as file:
            file.write((self._head(trainer) + "".join(map(self._line, trainer.history.epochs))).encode())

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Append the epoch."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(self._line(epoch))


class CSVLog(_Log):
    """Writes a table with a row for each epoch, for spreadsheets and pandas.

    Columns are those of `Epoch`, with the metrics that are single numbers under their names.

    Parameters
    ----------
    path : str or path
        Its folder is made if need be; a former file is replaced.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.training import CSVLog, Trainer
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = Trainer(Dense(2), callbacks=[CSVLog(folder + "/log.csv")])
    ...     history = trainer.fit(data, epochs=2, verbose=False)
    ...     print(Path(folder, "log.csv").read_text().splitlines()[0])
    epoch,loss,accuracy,validation_loss,validation_accuracy,lr,seconds,images_per_second,skipped_steps
    """

    def _head(self, trainer: Trainer) -> str:
        fixed = [f.name for f in dataclasses.fields(Epoch) if f.name != "validation_metrics"]
        self._columns = fixed + [name for name in trainer.metrics if name != "confusion_matrix"]
        return _csv_row(self._columns)

    def _line(self, epoch: Epoch) -> str:
        values = _numbers(epoch)
        return _csv_row(["" if values.get(name) is None else values[name] for name in self._columns])


class JSONLinesLog(_Log):
    """Writes a line of JSON for each epoch, with everything that was measured; what is not finite is null.

    Parameters
    ----------
    path : str or path
        Its folder is made if need be; a former file is replaced.
    """

    def _line(self, epoch: Epoch) -> str:
        return as_json(dataclasses.asdict(epoch)) + "\n"


class TensorBoard(Callback):
    """Writes losses, accuracies, metrics and the learning rate for TensorBoard.

    Parameters
    ----------
    folder : str or path
        What ``tensorboard --logdir`` is given.

    Raises
    ------
    MissingDependencyError
        If neither tensorboardX nor torch with tensorboard is installed.
    """

    writes = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._make = _summary_writer()
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the file of events."""
        self._writer = self._make(str(self.folder))

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Write the epoch."""
        for name, value in _numbers(epoch).items():
            if name != "epoch" and value is not None:
                half, _, quantity = name.rpartition("_")
                tag = f"{quantity}/{half}" if half == "validation" else name
                self._writer.add_scalar(tag, value, epoch.epoch)
        self._writer.flush()

    def on_fit_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer() -> Any:
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
    raise MissingDependencyError("TensorBoard needs a writer of its files; pip install 'xpnet[tensorboard]'")


def _numbers(epoch: Epoch) -> dict[str, Any]:
    """Return what an epoch measured, as far as it is single numbers."""
    values = dataclasses.asdict(epoch)
    more = values.pop("validation_metrics")
    return values | {name: value for name, value in more.items() if isinstance(value, float | int)}


def _csv_row(values: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
