"""Make the tables of docs/performance.md again, from the results of scripts/benchmark.py that it names.

python docs/make_tables.py     then python docs/make_pictures.py speed scaling, which draws the same results

A table stands between <!-- results: FILE --> and <!-- /results -->. To show a new result, name its file there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from xpnet.bench import tables
from xpnet.cli.guard import guarded
from xpnet.errors import DataError
from xpnet.files import atomic_write

ROOT = Path(__file__).parent.parent
TABLE = re.compile(r"^<!-- results: (\S+) -->\n(?:.*?\n)??<!-- /results -->$", re.S | re.M)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="(docs/performance.md)")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder that its files are named from (the checkout's)")
    args = parser.parse_args(argv)
    return guarded(lambda: fill(args.page, args.root))


def fill(page: Path, root: Path) -> int:
    """Write the tables of a page; if a result cannot be read, the page stays as it is."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- results: {match[1]} -->\n{tables(read(root / match[1])).strip()}\n<!-- /results -->"

    filled, count = TABLE.subn(table, page.read_text(encoding="utf-8"))
    if not count:
        raise DataError(f"{page} has no lines <!-- results: FILE --> and <!-- /results --> to write a table between")
    with atomic_write(page) as file:
        file.write(filled.encode())
    print(f"{count} tables in {page}")
    return 0


def read(path: Path) -> dict[str, Any]:
    """Return the result in a file, or say what is wrong with it."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result, dict) or not {"about", "peaks", "workloads"} <= set(result):
            raise ValueError("it has no workloads")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no result of benchmark.py --json that can be read: {error}") from None
    return result


if __name__ == "__main__":
    sys.exit(main())
