"""What ranks say to each other: the interface, and the one for a process that is alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xpnet.backend import Array
from xpnet.errors import DistributedError

__all__ = ["Communicator", "SingleCommunicator"]

T = TypeVar("T")


class Communicator:
    """Base of the communicators. Every method but `abort` is called by all ranks, in the same order.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0 on, and of all processes.
    local_rank, local_size : int
        The same among the processes on this machine: which GPU is whose.
    name : str
        For messages: ``"single"``, ``"mpi"``, ``"nccl"``.
    """

    name = ""
    rank = 0
    size = 1
    local_rank = 0
    local_size = 1

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, the one that prints, logs and saves."""
        return self.rank == 0

    def sum_(self, a: Array) -> None:
        """Replace an array, on every rank, by the sum of those of all ranks: bit for bit the same everywhere.

        Parameters
        ----------
        a : array of float or int
            Of the same shape and type on all ranks. Half types are summed in float32.
        """
        raise NotImplementedError(f"{type(self).__name__} must define sum_(a)")

    def stack(self, a: Array) -> Array:
        """Return an array (size, ...) of those of all ranks, in the order of the ranks."""
        raise NotImplementedError(f"{type(self).__name__} must define stack(a)")

    def gather_objects(self, value: T) -> list[T]:
        """Return the picklable objects of all ranks, in the order of the ranks."""
        raise NotImplementedError(f"{type(self).__name__} must define gather_objects(value)")

    def broadcast_object(self, value: T) -> T:
        """Return rank 0's picklable object; what the others give does not count."""
        raise NotImplementedError(f"{type(self).__name__} must define broadcast_object(value)")

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true on any rank."""
        raise NotImplementedError(f"{type(self).__name__} must define any(flag)")

    def barrier(self) -> None:
        """Wait for all ranks."""
        raise NotImplementedError(f"{type(self).__name__} must define barrier()")

    def abort(self, code: int) -> None:
        """End all ranks at once, with an exit code."""
        raise NotImplementedError(f"{type(self).__name__} must define abort(code)")

    def from_root(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone and return its result everywhere; an exception is one everywhere.

        Parameters
        ----------
        function : callable
            Returns something picklable.

        Raises
        ------
        Exception
            On rank 0, what the function raised.
        DistributedError
            On the others, naming it.
        """
        result: Any = None
        error: BaseException | None = None
        if self.is_root:
            try:
                result = function()
            except Exception as raised:
                error = raised
        said, result = self.broadcast_object((error and f"{type(error).__name__}: {error}", result))
        if error is not None:
            raise error
        if said is not None:
            raise DistributedError(f"rank 0 raised {said}")
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Communicator:
        return self  # a copied model talks to the same ranks

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: rank {self.rank} of {self.size}>"


class SingleCommunicator(Communicator):
    """One process, which agrees with itself.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.distributed import SingleCommunicator
    >>> comm, a = SingleCommunicator(), np.array([1.0, 2.0])
    >>> comm.sum_(a)
    >>> a, comm.stack(a), comm.is_root
    (array([1., 2.]), array([[1., 2.]]), True)
    """

    name = "single"

    def sum_(self, a: Array) -> None:
        """Leave the array as it is."""

    def stack(self, a: Array) -> Array:
        """Return the array under one more axis."""
        return a[None, ...]

    def gather_objects(self, value: T) -> list[T]:
        """Return the one object."""
        return [value]

    def broadcast_object(self, value: T) -> T:
        """Return the object."""
        return value

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return bool(flag)

    def barrier(self) -> None:
        """Return at once."""

    def abort(self, code: int) -> None:
        """End this process."""
        raise SystemExit(code)
