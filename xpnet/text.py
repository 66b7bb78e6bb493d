"""Text for people and by people: tables, names with settings, what a misspelt name may have meant."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["as_json", "first_line", "in_bytes", "listed", "near", "no_such", "parse_spec", "table"]


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


def in_bytes(count: int) -> str:
    """Return a number of bytes in a unit that people read, in powers of 1024 as `xpnet.config.parse_bytes` has them.

    Examples
    --------
    >>> from xpnet.text import in_bytes
    >>> in_bytes(512), in_bytes(3 << 19), in_bytes(5 << 30)
    ('512 B', '1.5 MB', '5.0 GB')
    """
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def as_json(content: Any, *, indent: int | None = None) -> str:
    """Return plain values as JSON, with null for NaN and infinities, of which JSON has none.

    Python writes and reads them as names of its own, at which other programs' readers fail.

    Parameters
    ----------
    content : mapping, list, tuple, str, number, bool or None
    indent : int, optional
        As for `json.dumps`.

    Examples
    --------
    >>> from xpnet.text import as_json
    >>> as_json({"loss": float("nan"), "top5": [0.5, 1.0]})
    '{"loss": null, "top5": [0.5, 1.0]}'
    """
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def first_line(error: BaseException) -> str:
    """Return what an error says on its first line, or its name if it says nothing.

    Examples
    --------
    >>> from xpnet.text import first_line
    >>> first_line(ValueError("one\\ntwo")), first_line(MemoryError())
    ('one', 'MemoryError')
    """
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def parse_spec(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the name and the settings that a text such as ``"lenet:variant=1998"`` or ``"crop:4"`` gives.

    Settings stand behind colons, in order or by name. Whole numbers are ints, others floats, ``true`` and
    ``false`` bools, everything else text.

    Parameters
    ----------
    text : str

    Returns
    -------
    name : str
    values : list
        Settings without a name.
    named : dict of str
        The others.

    Raises
    ------
    ValueError
        If a name is there twice: which one is meant cannot be told.

    Examples
    --------
    >>> from xpnet.text import parse_spec
    >>> parse_spec("crop:4:mode=reflect")
    ('crop', [4], {'mode': 'reflect'})
    """
    name, *settings = (part.strip() for part in text.split(":"))
    values = [_value(setting) for setting in settings if "=" not in setting]
    named: dict[str, Any] = {}
    for setting in settings:
        key, is_named, value = (part.strip() for part in setting.partition("="))
        if is_named and key in named:
            raise ValueError(f"{text!r}: {key} is there twice; give it once")
        if is_named:
            named[key] = _value(value)
    return name, values, named


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def near(wrong: str, known: Iterable[str], *, least: float = 0.6) -> str:
    """Return ``"; did you mean ...?"`` if something known looks like what is wrong, else nothing.

    Capitals, and dashes in place of underscores, count for nothing. Names that end in what is wrong are all told: of
    ``softmax_cross_entropy`` and ``binary_cross_entropy``, either may be meant by ``cross_entropy``.

    Parameters
    ----------
    wrong : str
    known : iterable of str
    least : float, default 0.6
        How much alike they must be, of 1: the ratio of `difflib.SequenceMatcher`.

    Examples
    --------
    >>> from xpnet.text import near
    >>> near("epoch", ["epochs", "lr"])
    "; did you mean 'epochs'?"
    """
    words = difflib.SequenceMatcher(b=_plain(wrong))
    alike, longer = {}, []
    for name in known:
        words.set_seq1(_plain(name))
        alike[name] = words.ratio()
        if _plain(name).endswith(f"_{_plain(wrong)}"):
            longer.append(name)
    if 1 <= len(longer) <= 3 and max(alike.values()) < 1.0:
        return f"; did you mean {' or '.join(map(repr, longer))}?"
    nearest = max(alike, key=alike.__getitem__, default="")  # of equals the first
    return f"; did you mean {nearest!r}?" if alike.get(nearest, 0.0) >= least else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def listed(names: Iterable[str]) -> str:
    """Return names with commas between them; of very many the first and the last, of none ``"none"``.

    Examples
    --------
    >>> from xpnet.text import listed
    >>> listed(["conv1", "pool1"]), listed([])
    ('conv1, pool1', 'none')
    """
    names = list(names)
    return ", ".join(names if len(names) <= 40 else [*names[:30], "...", *names[-10:]]) or "none"


def no_such(what: str, name: object, known: Iterable[str], *, of: str = "") -> str:
    """Return what is said of a name that there is not: what it may have meant, and the names that there are.

    Parameters
    ----------
    what : str
        The kind of thing that is named.
    name : object
        As it was given, by rights a str.
    known : iterable of str
    of : str, optional
        What would have it.

    Examples
    --------
    >>> from xpnet.text import no_such
    >>> no_such("optimizer", "adan", ["sgd", "adam"])
    "no optimizer 'adan'; did you mean 'adam'? There are sgd, adam"
    >>> no_such("optimizer", "tiger", ["sgd", "adam"])
    "no optimizer 'tiger'; there are sgd, adam"
    >>> no_such("setting", "slop", ["slope"], of="leaky_relu")
    "leaky_relu has no setting 'slop'; did you mean 'slope'? It has slope"
    """
    known = list(known)
    meant = near(name, known) if isinstance(name, str) else ""
    start, there = (f"{of} has no", "it has") if of else ("no", "there are")
    there = f"{meant} {there.capitalize()}" if meant else f"; {there}"
    return f"{start} {what} {name!r}{there} {listed(known)}"
