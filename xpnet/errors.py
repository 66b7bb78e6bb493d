"""The exceptions that xpnet raises, each saying where, what was expected, what came, and the remedy.

Every error about an operation is an `OperationError` and also the built-in exception a Python
programmer would look for (`ValueError`, `TypeError`, `RuntimeError`), so either `except` works.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ArrayMismatchError",
    "BackendUnavailableError",
    "DTypeError",
    "DataError",
    "DistributedError",
    "MissingDependencyError",
    "NonFiniteError",
    "OperationError",
    "OutOfMemoryError",
    "ShapeError",
    "StateError",
    "WeightsError",
]


class OperationError(Exception):
    """An operation was given something it cannot work with.

    Containers add the path of the layer while the exception climbs through them, so the message
    of an error deep in a model reads ``conv2d (layer "features.3"): x has 3 channels but ...``.

    Parameters
    ----------
    operation : str
        Name of the operation, as in `xpnet.functional` (``"conv2d"``).
    detail : str
        What was expected, what came, and the remedy.

    Examples
    --------
    >>> from xpnet.errors import ShapeError
    >>> error = ShapeError("conv2d", "x has 3 channels but W expects 1")
    >>> error.add_layer("3").add_layer("features")
    ShapeError('conv2d (layer "features.3"): x has 3 channels but W expects 1')
    """

    def __init__(self, operation: str, detail: str) -> None:
        super().__init__(operation, detail)
        self.operation = operation
        self.detail = detail
        self.layer = ""

    def add_layer(self, name: str) -> OperationError:
        """Put `name` in front of the layer path and return the error itself."""
        self.layer = f"{name}.{self.layer}" if self.layer else name
        return self

    def __str__(self) -> str:
        where = f' (layer "{self.layer}")' if self.layer else ""
        return f"{self.operation}{where}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ShapeError(OperationError, ValueError):
    """Array shapes do not fit the operation or each other."""


class ArgumentError(OperationError, ValueError):
    """A setting such as stride, padding or a name has a value the operation cannot use."""


class DTypeError(OperationError, TypeError):
    """An array has an element type the operation cannot use, or is no array at all."""


class ArrayMismatchError(OperationError, TypeError):
    """Arrays of one call come from different libraries, devices or float types."""


class NonFiniteError(OperationError, ArithmeticError):
    """NaN or infinity where only finite numbers make sense."""


class OutOfMemoryError(OperationError, MemoryError):
    """Memory ran out, on the host or on a device; the message names the layer and, for a step, a batch that fits."""


class StateError(OperationError, RuntimeError):
    """Something was called out of order, such as `backward` without a training forward."""


class BackendUnavailableError(RuntimeError):
    """The named backend, device or float type cannot be used here; the message says why."""


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message gives the install command."""


class DistributedError(RuntimeError):
    """The ranks of a distributed run do not fit together; the message gives both values."""


class DataError(ValueError):
    """A data file is missing, truncated, of another format, or does not fit its header."""


class WeightsError(ValueError):
    """A weights file or state does not fit the model; the model has not been changed."""
