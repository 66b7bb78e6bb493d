"""Docstrings as Markdown has them: their tables, formulas and sessions become blocks of plain text and code."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

TABLE = re.compile(r"^( *)={3,}(?: +={3,})+\n(.*?\n)\1={3,}(?: +={3,})+$", re.M | re.S)
RULE = re.compile(r" *={3,}(?: +={3,})+")  # between the parts of a table
MATH = re.compile(r"^( *)\.\. math::\n\n?((?:\1 +\S.*\n?)+)", re.M)
FORMULA = re.compile(r"^( *)\.\. math:: +(.+)$", re.M)
CODE = re.compile(r"(?:(\S)::|^ *::)\n(?=\n +\S)", re.M)
SESSION = re.compile(r"^( *)(>>> .*\n?(?:\1\S.*\n?)*)", re.M)
PARAMETERS = re.compile(r"^Parameters\n-{10}\n.*?(?=^\S[^\n]*\n-{3,}$|\Z)", re.M | re.S)
SEVERAL = re.compile(
    r"^(\w+(?:, \w+)+)((?: : .*)?\n?(?:(?: +\S.*)?\n)*)", re.M
)  # x, t : array, and what is said of them
SECTION = re.compile(r"^ *[A-Z]\w+(?: \w+)*\n *-{3,}$", re.M)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return the docstring with fences around what Markdown would run together or take for a quotation."""
    text = PARAMETERS.sub(lambda found: SEVERAL.sub(_one_each, found[0]), text)
    text = TABLE.sub(lambda found: _fenced(found, "text"), text)
    text = MATH.sub(lambda found: _fenced(found, "text"), text)
    text = FORMULA.sub(lambda found: _fenced(found, "text"), text)
    text = CODE.sub(lambda found: f"{found[1]}:\n" if found[1] else "", text)
    section = SECTION.search(text)
    start = section.start() if section else len(text)  # sessions under Examples are seen without help
    return SESSION.sub(lambda found: _fenced(found, "python"), text[:start]) + text[start:]


def _one_each(found: re.Match[str]) -> str:
    """Give each of several parameters an entry of its own, or all would be shown with the first one's default."""
    said = found[2].strip("\n")
    return "".join(f"{name}{said}\n" if said.startswith(" :") else f"{name}\n{said}\n" for name in found[1].split(", "))


def _fenced(found: re.Match[str], language: str) -> str:
    lines = [line for line in found[2].rstrip().splitlines() if not RULE.fullmatch(line)]
    block = "\n".join([f"```{language}", *textwrap.dedent("\n".join(lines)).splitlines(), "```", ""])
    return textwrap.indent(block, found[1])
