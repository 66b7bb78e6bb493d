"""Text for people: tables of aligned columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["table"]


def table(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> str:
    """Return rows of cells as lines of aligned columns, two spaces apart.

    Parameters
    ----------
    rows : sequence of sequence of str
        All of one length; the first is usually the header.
    left : collection of int, default (0,)
        Columns that are aligned to the left; the others go to the right, as numbers do.

    Examples
    --------
    >>> from xpnet.text import table
    >>> print(table([["name", "bytes"], ["a", "10"], ["b", "2,000"]]))
    name  bytes
    a        10
    b     2,000
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
