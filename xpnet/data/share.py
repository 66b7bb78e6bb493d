"""Which samples of a batch belong to which rank of a run on several processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

__all__ = ["PADDING", "Share", "bounds"]

PADDING = 2  # samples that stand for none, so that a rank without any can go along; one alone has no variance


def bounds(n: int, rank: int, size: int) -> tuple[int, int]:
    """Return where the part of a rank begins and ends, of n things cut in `size` parts that differ by one at most.

    Examples
    --------
    >>> from xpnet.data.share import bounds
    >>> [bounds(10, rank, 4) for rank in range(4)]
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    each, more = divmod(n, size)
    start = rank * each + min(rank, more)
    return start, start + each + (rank < more)


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every batch that one of several ranks learns from; together they learn from all of it, once.

    A batch is cut into pieces of `micro_batch` samples, and each piece into one part for each rank, so that for
    any number of ranks the same samples go through the model together.

    Attributes
    ----------
    rank, size : int
    micro_batch : int, optional
        Samples of a piece over all ranks; by default the batch is one piece.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.share import Share
    >>> batch = np.array([7, 1, 9, 4, 2])
    >>> [Share(rank, 2).rows(batch).tolist() for rank in range(2)]
    [[7, 1, 9], [4, 2]]
    >>> Share(0, 2, micro_batch=2).rows(batch).tolist(), Share(0, 2, micro_batch=2).sizes(5)
    ([7, 9, 2], [1, 1, 1])
    """

    rank: int
    size: int
    micro_batch: int | None = None

    def sizes(self, n: int) -> list[int]:
        """Return how many samples of each piece of a batch of `n` are this rank's; there may be none."""
        parts = (bounds(stop - start, self.rank, self.size) for start, stop in self._pieces(n))
        return [stop - start for start, stop in parts]

    def rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this rank's rows of a batch; where a piece has none for it, `PADDING` rows in their place."""
        found = []
        for start, stop in self._pieces(len(rows)):
            piece = rows[start:stop]
            a, b = bounds(len(piece), self.rank, self.size)
            found.append(piece[a:b] if b > a else np.resize(piece, PADDING))
        return np.concatenate(found)

    def _pieces(self, n: int) -> list[tuple[int, int]]:
        step = self.micro_batch or n
        return [(start, min(start + step, n)) for start in range(0, n, step)]
